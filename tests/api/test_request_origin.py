"""Tests of requests that a browser sends for the pages of web sites."""

from collections.abc import Callable

import pytest

from tests.support.api import ApiClient, ApiResponse, App

FORM_OF_ANOTHER_SITE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}
SCRIPT_OF_A_WEBVIEW = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site"}


@pytest.fixture(scope="module")
def api(new_hardened_app: Callable[..., App]) -> ApiClient:
    return ApiClient(
        new_hardened_app(
            http__public_url="https://Live.Example:443/app",
            http__allowed_origins="https://www.live.example http://10.0.0.1:8080",
            limits__sms_address="",
        )
    )


def sent_sms(api: ApiClient) -> int:
    return len(api.app.registry.services.gateways.sms.sent)


def request_code(api: ApiClient, headers: dict[str, str]) -> ApiResponse:
    api.app.registry.services.gateways.sms.sent.clear()
    return api.post_form("/register", {"token": "13800000001"}, headers=headers)


@pytest.mark.usefixtures("empty_tables", "database_url")
class TestHardenedMode:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "http://live.example"},  # another scheme than the public URL
            {"Origin": "https://live.example:8443"},
            {"Origin": "https://live.example.evil.example"},
            {"Origin": "HTTPS://evil.example"},
            {"Origin": "https://live.example, https://evil.example"},
            {"Origin": "https://evil.example", "Sec-Fetch-Mode": "cors"},
            {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-site"},
            # With a referrer policy or a sandbox, a form of another web site has no origin.
            {"Origin": "null", **FORM_OF_ANOTHER_SITE},
            {"Origin": "file://", **FORM_OF_ANOTHER_SITE},
            FORM_OF_ANOTHER_SITE,
            {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site"},
            {"Origin": "null", "Sec-Fetch-Mode": "no-cors"},
        ],
    )
    def test_request_of_a_foreign_page_is_refused_and_sends_no_sms(
        self, headers: dict[str, str], api: ApiClient
    ) -> None:
        response = request_code(api, headers)
        assert (response.status, response.body) == (400, {"result": "0003", "message": None})
        assert response.error == "origin; reason=origin_not_allowed"
        assert sent_sms(api) == 0

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Origin": "null"},
            {"Origin": "file://"},
            {"Origin": "null", **SCRIPT_OF_A_WEBVIEW},
            {"Origin": "file://", **SCRIPT_OF_A_WEBVIEW},
            {"Origin": "ionic://localhost", **SCRIPT_OF_A_WEBVIEW},
            {"Origin": "https://live.example", **SCRIPT_OF_A_WEBVIEW},
            {"Origin": "https://live.example", "Sec-Fetch-Mode": "navigate"},
            {"Origin": "https://www.live.example", **SCRIPT_OF_A_WEBVIEW},
            {"Origin": "http://10.0.0.1:8080"},
            {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"},
            {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "same-origin"},
        ],
    )
    def test_request_of_an_app_or_of_an_own_page_is_accepted(
        self, headers: dict[str, str], api: ApiClient
    ) -> None:
        assert request_code(api, headers).result == "0000"
        assert sent_sms(api) == 1

    @pytest.mark.parametrize("path", ["/log", "/friend", "/golden", "/upload", "/payments"])
    def test_every_path_refuses_a_request_of_a_foreign_page(
        self, path: str, api: ApiClient
    ) -> None:
        response = api.post_form(path, {}, headers={"Origin": "https://evil.example"})
        assert response.error == "origin; reason=origin_not_allowed"


def test_spec_mode_accepts_requests_of_every_origin(app: App, database_url: str) -> None:
    api = ApiClient(app)
    for headers in ({"Origin": "https://evil.example"}, FORM_OF_ANOTHER_SITE):
        assert api.post_form("/log", {"userId": "1"}, headers=headers).result == "0007"
