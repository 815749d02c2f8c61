"""Tests of request ids, security headers and the HTTPS requirement."""

import re
from collections.abc import Callable

import pytest

from tests.support.api import ApiClient, ApiResponse, App


@pytest.fixture
def proxied_api(new_app: Callable[..., App]) -> ApiClient:
    """A client whose address, 127.0.0.1, is that of a trusted proxy."""
    return ApiClient(new_app(http__trusted_proxies="127.0.0.1"))


def send(api: ApiClient, **headers: str) -> ApiResponse:
    header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
    environ = {"REMOTE_ADDR": "127.0.0.1"}
    return api.post_form("/log", {"userId": "1"}, headers=header_fields, extra_environ=environ)


def test_request_through_a_trusted_proxy_must_use_https(proxied_api: ApiClient) -> None:
    for headers in ({}, {"X_Forwarded_Proto": "http"}, {"X_Forwarded_Proto": "https,http"}):
        response = send(proxied_api, **headers)
        assert (response.status, response.result) == (400, "0003")
        assert response.error == "scheme; reason=https_required"
    response = send(proxied_api, X_Forwarded_Proto="https")
    assert response.result == "0007"
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_x_forwarded_proto_of_a_direct_client_is_ignored(api: ApiClient) -> None:
    response = send(api, X_Forwarded_Proto="http")
    assert response.result == "0007"
    assert "Strict-Transport-Security" not in response.headers


def test_every_response_has_a_new_request_id(api: ApiClient) -> None:
    first_id, second_id = (send(api).headers["X-Request-Id"] for _ in range(2))
    assert re.fullmatch("[0-9a-f]{32}", first_id)
    assert first_id != second_id


def test_request_id_is_accepted_from_trusted_proxies_only(
    api: ApiClient, proxied_api: ApiClient
) -> None:
    assert send(api, X_Request_Id="abc").headers["X-Request-Id"] != "abc"
    https_header = {"X_Forwarded_Proto": "https"}
    assert (
        send(proxied_api, X_Request_Id="abc-1", **https_header).headers["X-Request-Id"] == "abc-1"
    )
    assert send(proxied_api, X_Request_Id="a b", **https_header).headers["X-Request-Id"] != "a b"


@pytest.mark.parametrize("path", ["/log", "/no", "/pictures/x"])
def test_every_response_has_security_headers(path: str, api: ApiClient) -> None:
    headers = api.post(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert "Server" not in headers


def test_request_over_a_unix_socket_needs_a_trusted_proxy_and_https(
    api: ApiClient, new_app: Callable[..., App]
) -> None:
    def send_over_socket(api: ApiClient, **headers: str) -> ApiResponse:
        form, socket = {"userId": "1"}, {"REMOTE_ADDR": ""}
        return api.post_form("/log", form, headers=headers, extra_environ=socket)

    response = send_over_socket(api)
    assert (response.status, response.result) == (400, "0003")
    assert response.error == "proxy; reason=untrusted_proxy"
    proxied_api = ApiClient(new_app(http__trusted_proxies="unix"))
    assert send_over_socket(proxied_api).error == "scheme; reason=https_required"
    assert send_over_socket(proxied_api, **{"X-Forwarded-Proto": "https"}).result == "0007"
