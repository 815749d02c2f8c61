"""Tests of the checks of the listening address."""

import pytest

from livebackend.config.errors import SettingsError
from livebackend.monitoring.startup_checks import check_address_is_not_public, internet_addresses


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "::1",
        "localhost",
        "10.1.2.3",
        "192.168.0.4",
        "fd00::5",
        "fe80::6",
        "no.invalid",
    ],
)
def test_address_that_the_internet_cannot_reach_is_accepted(host: str) -> None:
    check_address_is_not_public(host, lambda: ["8.8.8.8"])


@pytest.mark.parametrize("host", ["8.8.8.8", "2001:4860:4860::8888"])
def test_public_address_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match=f"can reach {host}, .*http.trusted_proxies"):
        check_address_is_not_public(host, list)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_all_networks_are_refused_if_one_of_them_is_public(host: str) -> None:
    with pytest.raises(SettingsError, match=r"can reach 8\.8\.8\.8"):
        check_address_is_not_public(host, lambda: ["10.0.0.1", "8.8.8.8"])
    check_address_is_not_public(host, lambda: ["10.0.0.1", "fd00::1"])


def test_internet_addresses_are_addresses_of_this_machine() -> None:
    assert len(internet_addresses()) <= 2
