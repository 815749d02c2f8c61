"""Tests of the checks of the listening address."""

import pytest

from livebackend.config.errors import SettingsError
from livebackend.monitoring.startup_checks import check_address_is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_address_that_only_this_machine_can_reach_is_accepted(host: str) -> None:
    check_address_is_loopback(host)


def test_unknown_host_is_left_to_the_check_of_the_port() -> None:
    check_address_is_loopback("no.invalid")


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "2001:4860:4860::8888", "10.1.2.3", "192.168.0.4", "fd00::5", "0.0.0.0", "::"],
)
def test_address_that_other_machines_can_reach_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match=f"can reach {host}, .*http.trusted_proxies"):
        check_address_is_loopback(host)
