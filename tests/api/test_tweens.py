"""Request ids, security headers, HTTPS."""

import re
from collections.abc import Callable

import pytest

from tests.support.api import Answer, Api, App


@pytest.fixture
def proxied(new_app: Callable[..., App]) -> Api:
    """A client behind a trusted proxy; WebTest always connects from 127.0.0.1."""
    return Api(new_app(http__trusted_proxies="127.0.0.1"))


def send(api: Api, **headers: str) -> Answer:
    dashed = {name.replace("_", "-"): value for name, value in headers.items()}
    environ = {"REMOTE_ADDR": "127.0.0.1"}
    return api.send("/log", {"userId": "1"}, headers=dashed, extra_environ=environ)


def test_request_through_a_trusted_proxy_must_use_https(proxied: Api) -> None:
    for scheme in ({}, {"X_Forwarded_Proto": "http"}, {"X_Forwarded_Proto": "https,http"}):
        answer = send(proxied, **scheme)
        assert (answer.status, answer.result) == (400, "0003")
        assert answer.refusal == "scheme is not HTTPS"
    answer = send(proxied, X_Forwarded_Proto="https")
    assert answer.result == "0007"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_x_forwarded_proto_of_a_direct_client_is_ignored(api: Api) -> None:
    answer = send(api, X_Forwarded_Proto="http")
    assert answer.result == "0007"
    assert "Strict-Transport-Security" not in answer.headers


def test_every_response_has_a_new_request_id(api: Api) -> None:
    first, second = (send(api).headers["X-Request-Id"] for _ in range(2))
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second


def test_request_id_is_accepted_from_trusted_proxies_only(api: Api, proxied: Api) -> None:
    assert send(api, X_Request_Id="abc").headers["X-Request-Id"] != "abc"
    https = {"X_Forwarded_Proto": "https"}
    assert send(proxied, X_Request_Id="abc-1", **https).headers["X-Request-Id"] == "abc-1"
    assert send(proxied, X_Request_Id="a b", **https).headers["X-Request-Id"] != "a b"


@pytest.mark.parametrize("path", ["/log", "/no", "/pictures/x"])
def test_every_response_has_security_headers(path: str, api: Api) -> None:
    headers = api.post(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert "Server" not in headers
