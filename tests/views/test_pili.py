"""Tests of Qiniu's stream callbacks and of the status queries that confirm them."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from webtest import TestApp

from livebackend.container import Services
from livebackend.gateways.qiniu import QiniuAuth
from livebackend.gateways.streams import PiliV2
from tests.support.api import ApiClient, App, UserClient
from tests.support.database_state import DatabaseState
from tests.support.fake_providers import ACCESS_KEY, SECRET_KEY, FakePiliV2
from tests.support.fake_server import running_fake_server
from tests.support.streams import go_live

FORM_MEDIA_TYPE = "application/x-www-form-urlencoded"
INVALID_SIGNATURE = (403, "signature; reason=invalid_signature")


@pytest.fixture
def provider() -> Iterator[FakePiliV2]:
    provider = FakePiliV2()
    with running_fake_server(provider.server):
        yield provider


@pytest.fixture
def app(provider: FakePiliV2, new_provider_app: Callable[..., App]) -> App:
    return new_provider_app(
        PiliV2, provider.server.url, http__public_url="https://live.example/api"
    )


def post_callback(app: App, body: str, **headers: str) -> Any:
    header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
    all_headers = {"Content-Type": FORM_MEDIA_TYPE, **header_fields}
    return TestApp(app).post("/pili/callback", body, headers=all_headers, status="*")


def authorization(body: str, *, secret_key: str = SECRET_KEY, host: str = "live.example") -> str:
    """Return the Authorization header that Qiniu sends to the configured callback URL."""
    return QiniuAuth(ACCESS_KEY, secret_key).authorization(
        "POST",
        "/api/pili/callback",
        host=host,
        headers={"Content-Type": FORM_MEDIA_TYPE},
        body=body.encode(),
    )


def post_signed_callback(app: App, **fields: str) -> Any:
    body = urlencode(fields)
    return post_callback(app, body, Authorization=authorization(body))


def allow_status_query(services: Services) -> None:
    """Set back the time of the last status query, so that the server allows another."""
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE rooms SET provider_checked_at = now() - interval '3 seconds'"
        )


def test_callback_stores_the_status_that_the_provider_reports(
    app: App,
    provider: FakePiliV2,
    ann: UserClient,
    services: Services,
    database_state: DatabaseState,
) -> None:
    key = go_live(ann)
    assert database_state.rows("rooms")[0]["offline_since"] is not None
    # The callback reports "connected", but the status query returns no publisher.
    assert post_signed_callback(app, title=key, status="connected").status_int == 204
    assert database_state.rows("rooms")[0]["offline_since"] is not None
    provider.start_publishing(key)
    allow_status_query(services)
    # The callback reports "disconnected", but the status query returns a publisher.
    assert post_signed_callback(app, title=key, status="disconnected").status_int == 204
    assert database_state.rows("rooms")[0]["offline_since"] is None
    provider.stop_publishing(key)
    allow_status_query(services)
    assert post_signed_callback(app, title=key, status="disconnected").status_int == 204
    (room,) = database_state.rows("rooms")
    assert room["offline_since"] is not None
    assert room["state"] == "open"


def test_repeated_callback_changes_nothing_and_does_not_query_the_provider(
    app: App, provider: FakePiliV2, ann: UserClient, database_state: DatabaseState
) -> None:
    key = go_live(ann)
    post_signed_callback(app, title=key, status="disconnected")
    request_count = len(provider.server.received_requests)
    with database_state.assert_unchanged():
        for _ in range(20):
            assert post_signed_callback(app, title=key, status="disconnected").status_int == 204
    assert len(provider.server.received_requests) == request_count


def test_replayed_callback_for_a_closed_room_changes_nothing(
    app: App,
    provider: FakePiliV2,
    ann: UserClient,
    services: Services,
    database_state: DatabaseState,
) -> None:
    key = go_live(ann)
    post_signed_callback(app, title=key, status="connected")
    ann.post("/room", leave="1")
    go_live(ann)
    allow_status_query(services)
    request_count = len(provider.server.received_requests)
    with database_state.assert_unchanged():
        assert post_signed_callback(app, title=key, status="connected").status_int == 204
    assert len(provider.server.received_requests) == request_count


def test_callback_without_a_valid_signature_returns_403(
    app: App, provider: FakePiliV2, ann: UserClient, database_state: DatabaseState
) -> None:
    key = go_live(ann)
    request_count = len(provider.server.received_requests)
    body = urlencode({"title": key, "status": "disconnected"})
    for headers in (
        {},
        {"Authorization": ""},
        {"Authorization": "Qiniu"},
        {"Authorization": authorization(body, secret_key="another")},
        {"Authorization": authorization(body, host="evil.example")},
        {"Authorization": authorization(body + "&more=1")},
        {"Authorization": authorization(body), "X_Qiniu_Date": "20260101T000000Z"},
    ):
        with database_state.assert_unchanged():
            response = post_callback(app, body, **headers)
        assert (response.status_int, response.headers["X-Error"]) == INVALID_SIGNATURE
        assert response.json == {"result": "0003", "message": None}
    assert len(provider.server.received_requests) == request_count


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 400), ("title=", 400), ("status=connected", 400), ("title=a&title=b", 400), ("%ff", 400)],
)
def test_signed_callback_with_an_invalid_body_returns_400(
    body: str, status: int, app: App, database_state: DatabaseState
) -> None:
    with database_state.assert_unchanged():
        assert post_callback(app, body, Authorization=authorization(body)).status_int == status


@pytest.mark.parametrize("title", ["\0", "586f00dd\0", "a\nb", "a\x7f"])
def test_signed_callback_with_a_control_character_in_the_title_returns_400(
    title: str, app: App, ann: UserClient, provider: FakePiliV2, database_state: DatabaseState
) -> None:
    go_live(ann)
    request_count = len(provider.server.received_requests)
    with database_state.assert_unchanged():
        response = post_signed_callback(app, title=title)
    assert (response.status_int, response.headers["X-Error"]) == (
        400,
        "title; reason=control_character",
    )
    assert response.json == {"result": "0003", "message": None}
    assert len(provider.server.received_requests) == request_count


def test_callback_with_a_too_large_body_returns_413(
    app: App, database_state: DatabaseState
) -> None:
    body = urlencode({"title": "x" * 70_000})
    assert post_callback(app, body, Authorization=authorization(body)).status_int == 413


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD"])
def test_callback_with_another_method_than_post_returns_405(method: str, app: App) -> None:
    response = TestApp(app).request("/pili/callback", method=method, status="*")
    assert (response.status_int, response.headers["Allow"]) == (405, "POST")


def test_callback_without_configured_keys_returns_403(
    new_app: Callable[..., App], database_state: DatabaseState, api: ApiClient
) -> None:
    body = urlencode({"title": "x"})
    empty_key_authorization = QiniuAuth("", "").authorization(
        "POST",
        "/pili/callback",
        host="127.0.0.1:6543",
        headers={"Content-Type": FORM_MEDIA_TYPE},
        body=body.encode(),
    )
    assert post_callback(new_app(), body, Authorization=empty_key_authorization).status_int == 403


def test_callback_when_the_provider_fails_does_not_change_the_status(
    app: App, provider: FakePiliV2, ann: UserClient, database_state: DatabaseState
) -> None:
    key = go_live(ann)
    rows_before = database_state.rows("rooms")
    provider.server.failure_mode = "500"
    assert post_signed_callback(app, title=key, status="disconnected").status_int == 204
    (room,) = database_state.rows("rooms")
    assert {**room, "provider_checked_at": None} == {**rows_before[0], "provider_checked_at": None}
