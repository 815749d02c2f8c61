"""What holds for every request and reply."""

import re
from collections.abc import Callable

import pytest
from pyramid.request import Request

from livebackend.api.client_address import Peers
from livebackend.config.settings import Settings
from tests.support.api import Answer, Api, App
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


@pytest.fixture
def proxied(new_app: Callable[..., App]) -> Api:
    """Whoever comes by a proxy of ours: WebTest has no other address than 127.0.0.1."""
    return Api(new_app(http__trusted_proxies="127.0.0.1"))


def send(api: Api, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    environ = {"REMOTE_ADDR": "127.0.0.1"}
    return api.send("/log", {"userId": "1"}, headers=named, extra_environ=environ)


def test_a_proxy_of_ours_must_have_been_spoken_to_over_https(proxied: Api) -> None:
    for scheme in ({}, {"X_Forwarded_Proto": "http"}, {"X_Forwarded_Proto": "https,http"}):
        answer = send(proxied, **scheme)
        assert (answer.status, answer.result) == (400, "0003")
        assert answer.refusal == "scheme is not HTTPS"
    answer = send(proxied, X_Forwarded_Proto="https")
    assert answer.result == "0007"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_whoever_comes_directly_says_nothing_about_https(api: Api) -> None:
    answer = send(api, X_Forwarded_Proto="http")
    assert answer.result == "0007"
    assert "Strict-Transport-Security" not in answer.headers


def test_every_reply_has_an_id_of_its_own(api: Api) -> None:
    first, second = (send(api).headers["X-Request-Id"] for _ in range(2))
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second


def test_a_strangers_request_id_is_not_taken(api: Api, proxied: Api) -> None:
    assert send(api, X_Request_Id="abc").headers["X-Request-Id"] != "abc"
    https = {"X_Forwarded_Proto": "https"}
    assert send(proxied, X_Request_Id="abc-1", **https).headers["X-Request-Id"] == "abc-1"
    assert send(proxied, X_Request_Id="a b", **https).headers["X-Request-Id"] != "a b"


@pytest.mark.parametrize("path", ["/log", "/no", "/pictures/x"])
def test_every_reply_has_the_headers_for_safety(path: str, api: Api) -> None:
    headers = api.post(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert "Server" not in headers
