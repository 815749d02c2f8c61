"""The address that rate limits count a request for, behind proxies or without."""

import pytest
from pyramid.request import Request

from livebackend.api.client_address import Peers
from livebackend.config.settings import Settings
from tests.support.settings import REQUIRED_SETTINGS


def peers(trusted: str) -> Peers:
    return Peers(
        Settings.load({**REQUIRED_SETTINGS, "http.trusted_proxies": trusted}, {}).trusted_proxies
    )


def request(peer: str, **headers: str) -> Request:
    request = Request.blank("/", environ={"REMOTE_ADDR": peer})
    request.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return request


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # forged by a stranger
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.1, 198.51.100.1", "198.51.100.1"),  # its left is the stranger's own
        ("10.0.0.1", "192.0.2.1, 198.51.100.1,10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", ", ".join(["10.0.0.9"] * 50), "10.0.0.9"),
        ("10.0.0.1", "192.0.2.1, " + ", ".join(["x"] * 50), "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("", "198.51.100.1", "nowhere"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ],
)
def test_whom_a_call_is_counted_for(peer: str, forwarded: str, address: str) -> None:
    asked = request(peer, X_Forwarded_For=forwarded) if forwarded else request(peer)
    assert peers("10.0.0.0/8").address(asked) == address


def test_nobody_is_trusted_unless_said() -> None:
    asked = request("127.0.0.1", X_Forwarded_For="198.51.100.1")
    assert peers("").address(asked) == "127.0.0.1"
    assert not peers("").is_proxied(asked)
