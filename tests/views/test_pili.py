"""Qiniu's callbacks: signed hints, which only its own answer confirms."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from webtest import TestApp

from livebackend.container import Services
from livebackend.gateways.qiniu import QiniuAuth
from livebackend.gateways.streams import PiliV2
from tests.support.api import Api, App, Person
from tests.support.database_state import DatabaseState
from tests.support.fake_providers import ACCESS_KEY, SECRET_KEY, FakePiliV2
from tests.support.fake_server import running
from tests.support.streams import go_live

FORM = "application/x-www-form-urlencoded"
NOT_OURS = (403, "signature is not from whom it must be")


@pytest.fixture
def provider() -> Iterator[FakePiliV2]:
    provider = FakePiliV2()
    with running(provider.server):
        yield provider


@pytest.fixture
def app(provider: FakePiliV2, new_provider_app: Callable[..., App]) -> App:
    return new_provider_app(PiliV2, provider.server.url, http__url="https://live.example/api")


def call(app: App, body: str, **headers: str) -> Any:
    named = {"Content-Type": FORM, **{name.replace("_", "-"): headers[name] for name in headers}}
    return TestApp(app).post("/pili/callback", body, headers=named, status="*")


def signed(body: str, *, secret_key: str = SECRET_KEY, host: str = "live.example") -> str:
    """What Qiniu sends along, for the address that it was told."""
    return QiniuAuth(ACCESS_KEY, secret_key).authorization(
        "POST",
        "/api/pili/callback",
        host=host,
        headers={"Content-Type": FORM},
        body=body.encode(),
    )


def hint(app: App, **fields: str) -> Any:
    body = urlencode(fields)
    return call(app, body, Authorization=signed(body))


def look_again(services: Services) -> None:
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE rooms SET provider_checked_at = now() - interval '3 seconds'"
        )


def test_a_hint_is_confirmed_by_the_provider(
    app: App, provider: FakePiliV2, ann: Person, services: Services, database_state: DatabaseState
) -> None:
    key = go_live(ann)
    assert database_state.rows("rooms")[0]["offline_since"] is not None
    # It says connected, and is not.
    assert hint(app, title=key, status="connected").status_int == 204
    assert database_state.rows("rooms")[0]["offline_since"] is not None
    provider.go_live(key)
    look_again(services)
    # It says disconnected, and is not.
    assert hint(app, title=key, status="disconnected").status_int == 204
    assert database_state.rows("rooms")[0]["offline_since"] is None
    provider.hang_up(key)
    look_again(services)
    assert hint(app, title=key, status="disconnected").status_int == 204
    (room,) = database_state.rows("rooms")
    assert room["offline_since"] is not None
    assert room["state"] == "open"


def test_the_same_again_changes_nothing_and_asks_nobody(
    app: App, provider: FakePiliV2, ann: Person, database_state: DatabaseState
) -> None:
    key = go_live(ann)
    hint(app, title=key, status="disconnected")
    asked = len(provider.server.asked)
    with database_state.unchanged():
        for _ in range(20):
            assert hint(app, title=key, status="disconnected").status_int == 204
    assert len(provider.server.asked) == asked


def test_one_that_is_replayed_after_the_room_was_left_changes_nothing(
    app: App, provider: FakePiliV2, ann: Person, services: Services, database_state: DatabaseState
) -> None:
    key = go_live(ann)
    hint(app, title=key, status="connected")
    ann.post("/room", leave="1")
    go_live(ann)
    look_again(services)
    asked = len(provider.server.asked)
    with database_state.unchanged():
        assert hint(app, title=key, status="connected").status_int == 204
    assert len(provider.server.asked) == asked


def test_without_qinius_signature_it_is_refused(
    app: App, provider: FakePiliV2, ann: Person, database_state: DatabaseState
) -> None:
    key = go_live(ann)
    asked = len(provider.server.asked)
    body = urlencode({"title": key, "status": "disconnected"})
    for headers in (
        {},
        {"Authorization": ""},
        {"Authorization": "Qiniu"},
        {"Authorization": signed(body, secret_key="another")},
        {"Authorization": signed(body, host="evil.example")},
        {"Authorization": signed(body + "&more=1")},
        {"Authorization": signed(body), "X_Qiniu_Date": "20260101T000000Z"},
    ):
        with database_state.unchanged():
            answer = call(app, body, **headers)
        assert (answer.status_int, answer.headers["X-Refusal"]) == NOT_OURS
        assert answer.json == {"result": "0003", "message": None}
    assert len(provider.server.asked) == asked


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 400), ("title=", 400), ("status=connected", 400), ("title=a&title=b", 400), ("%ff", 400)],
)
def test_a_hint_about_nothing_is_refused(
    body: str, status: int, app: App, database_state: DatabaseState
) -> None:
    with database_state.unchanged():
        assert call(app, body, Authorization=signed(body)).status_int == status


def test_a_body_is_bounded(app: App, database_state: DatabaseState) -> None:
    body = urlencode({"title": "x" * 70_000})
    assert call(app, body, Authorization=signed(body)).status_int == 413


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD"])
def test_another_method_is_405(method: str, app: App) -> None:
    answer = TestApp(app).request("/pili/callback", method=method, status="*")
    assert (answer.status_int, answer.headers["Allow"]) == (405, "POST")


def test_without_keys_nothing_is_qinius(
    new_app: Callable[..., App], database_state: DatabaseState, api: Api
) -> None:
    body = urlencode({"title": "x"})
    nobody = QiniuAuth("", "").authorization(
        "POST",
        "/pili/callback",
        host="127.0.0.1:6543",
        headers={"Content-Type": FORM},
        body=body.encode(),
    )
    assert call(new_app(), body, Authorization=nobody).status_int == 403


def test_a_provider_that_fails_changes_nothing(
    app: App, provider: FakePiliV2, ann: Person, database_state: DatabaseState
) -> None:
    key = go_live(ann)
    before = database_state.rows("rooms")
    provider.server.fault = "500"
    assert hint(app, title=key, status="disconnected").status_int == 204
    (room,) = database_state.rows("rooms")
    assert {**room, "provider_checked_at": None} == {**before[0], "provider_checked_at": None}
