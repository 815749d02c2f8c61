"""Tests of the client address of requests with and without proxies."""

import pytest
from pyramid.request import Request

from livebackend.api.client_address import ClientAddressResolver
from livebackend.config.settings import Settings
from tests.support.settings import REQUIRED_SETTINGS


def new_resolver(trusted_proxies: str, header: str = "X-Forwarded-For") -> ClientAddressResolver:
    settings = Settings.load({**REQUIRED_SETTINGS, "http.trusted_proxies": trusted_proxies}, {})
    return ClientAddressResolver(
        settings.trusted_proxies, trusts_unix_socket=settings.trusts_unix_socket, header=header
    )


def request(peer: str, **headers: str) -> Request:
    request = Request.blank("/", environ={"REMOTE_ADDR": peer})
    request.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return request


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected_address"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # the peer is not a proxy
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.1, 198.51.100.1", "198.51.100.1"),  # the client forged 192.0.2.1
        ("10.0.0.1", "192.0.2.1, 198.51.100.1,10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", ", ".join(["10.0.0.9"] * 50), "10.0.0.9"),
        ("10.0.0.1", "192.0.2.1, " + ", ".join(["x"] * 50), "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("", "198.51.100.1", "unknown"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ],
)
def test_client_address_is_the_nearest_untrusted_address(
    peer: str, forwarded_for: str, expected_address: str
) -> None:
    headers = {"X_Forwarded_For": forwarded_for} if forwarded_for else {}
    assert new_resolver("10.0.0.0/8").address(request(peer, **headers)) == expected_address


def test_no_proxy_is_trusted_by_default() -> None:
    forged_request = request("127.0.0.1", X_Forwarded_For="198.51.100.1")
    assert new_resolver("").address(forged_request) == "127.0.0.1"
    assert not new_resolver("").is_from_trusted_proxy(forged_request)


@pytest.mark.parametrize("socket_address", ["", "localhost"])
def test_unix_socket_is_a_trusted_proxy_only_if_the_settings_contain_unix(
    socket_address: str,
) -> None:
    forwarded_request = request(socket_address, X_Forwarded_For="192.0.2.1, 198.51.100.1")
    assert new_resolver("10.0.0.0/8 unix").address(forwarded_request) == "198.51.100.1"
    assert new_resolver("unix").is_from_trusted_proxy(forwarded_request)
    assert not new_resolver("unix").is_over_untrusted_unix_socket(forwarded_request)
    assert new_resolver("10.0.0.0/8").address(forwarded_request) == "unknown"
    assert new_resolver("10.0.0.0/8").is_over_untrusted_unix_socket(forwarded_request)


def test_trusted_unix_socket_does_not_make_the_clients_of_a_port_trusted() -> None:
    forged_request = request("203.0.113.7", X_Forwarded_For="198.51.100.1")
    assert new_resolver("unix").address(forged_request) == "203.0.113.7"
    assert not new_resolver("unix").is_from_trusted_proxy(forged_request)


def test_hops_behind_a_unix_socket_are_trusted_only_if_they_are_proxies() -> None:
    forwarded_request = request("", X_Forwarded_For="192.0.2.1, 198.51.100.1, 10.0.0.2")
    assert new_resolver("unix 10.0.0.0/8").address(forwarded_request) == "198.51.100.1"
    assert new_resolver("unix").address(forwarded_request) == "10.0.0.2"


def test_address_is_read_from_the_configured_header_only() -> None:
    forwarded_request = request(
        "10.0.0.1", X_Forwarded_For="198.51.100.1", Clientaddress="192.0.2.1"
    )
    assert new_resolver("10.0.0.0/8", "Clientaddress").address(forwarded_request) == "192.0.2.1"


def test_request_with_a_header_of_a_proxy_is_not_local() -> None:
    resolver = new_resolver("127.0.0.1", "Clientaddress")
    assert resolver.is_local(request("127.0.0.1"))
    assert not resolver.is_local(request("127.0.0.1", Clientaddress="192.0.2.1"))
    assert not resolver.is_local(request("127.0.0.1", X_Forwarded_For="192.0.2.1"))
    assert not resolver.is_local(request("192.0.2.1"))
