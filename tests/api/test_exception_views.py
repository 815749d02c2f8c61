"""Tests of the responses to server errors and to unavailable services."""

from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from sqlalchemy.exc import IntegrityError, NotSupportedError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.api import tweens
from livebackend.container import Services
from livebackend.core.errors import ServiceUnavailable
from livebackend.core.request_context import DatabaseBudget
from tests.support.api import PASSWORD, ApiClient, App, UserClient
from tests.support.database_state import DatabaseState
from tests.support.unreachable_database import disconnect

REQUESTS = [
    ("/register", {"token": "13800000009"}, "0002"),
    ("/register", {"code_v": "1234", "code": "1235"}, "0004"),
    ("/register", {"register": "1", "userId": "13800000009", "password": PASSWORD}, "0006"),
    ("/log", {"userId": "13800000001", "password": PASSWORD}, "0008"),
    ("/room", {"live": "1"}, "0009"),
    ("/room", {"leave": "1"}, "0009"),
    ("/list", {"friendlist": "1"}, "0006"),
    ("/list", {"messagelist": "1"}, "0006"),
    ("/friend", {"search": "1", "userId": "13800000001"}, "0006"),
    ("/friend", {"add": "1", "userId": "13800000001"}, "0006"),
    ("/friend", {"dealMessage": "1", "behaviour": "accept"}, "0006"),
    ("/friend", {"delete": "1", "userId": "13800000001"}, "0006"),
    ("/golden", {"refill": "1", "money": "10"}, "0013"),
    ("/friend", {"refill": "1", "money": "10"}, "0013"),
    (
        "/golden",
        {"send_gift": "1", "value": "1", "object": "13800000001", "description": "x"},
        "0013",
    ),
]


@pytest.mark.parametrize(("path", "form", "expected_result_code"), REQUESTS, ids=str)
class TestDatabaseFailure:
    def test_unreachable_database_is_503_with_the_default_result_code(
        self,
        path: str,
        form: dict[str, str],
        expected_result_code: str,
        ann: UserClient,
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        disconnect(services.database, monkeypatch)
        response = ann.post(path, **{"token": ann.token, **form})
        assert (response.status, response.result) == (503, expected_result_code)
        assert response.message == ("update failed" if expected_result_code == "0013" else None)
        assert int(response.headers["Retry-After"]) > 0
        assert response.error == "request; reason=service_unavailable"

    def test_request_succeeds_after_postgresql_terminated_the_connections(
        self,
        path: str,
        form: dict[str, str],
        expected_result_code: str,
        ann: UserClient,
        services: Services,
    ) -> None:
        with services.database.engine.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert ann.post(path, **{"token": ann.token, **form}).status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PoolTimeout("the pool is empty"), 503),
        (ServiceUnavailable("the provider", retry_after_s=7), 503),
        (OperationalError("SELECT 1", {}, psycopg2.OperationalError("timeout")), 503),
        # A standby: "cannot access temporary or unlogged relations during recovery".
        (
            NotSupportedError(
                "SELECT 1", {}, psycopg2.NotSupportedError("x"), connection_invalidated=True
            ),
            503,
        ),
        (NotSupportedError("SELECT 1", {}, psycopg2.NotSupportedError("a bug")), 500),
        (IntegrityError("SELECT 1", {}, psycopg2.IntegrityError("a bug")), 500),
        (RuntimeError("a bug"), 500),
        (KeyError("13800000001"), 500),
    ],
)
def test_exception_is_rendered_as_a_response_envelope_without_details(
    error: Exception,
    status: int,
    ann: UserClient,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(services.database, "run_autocommit", fail)
    response = ann.post("/list", friendlist="1")
    assert (response.status, response.body) == (status, {"result": "0006", "message": None})
    if status == 503:
        assert response.headers["Retry-After"] == str(getattr(error, "retry_after_s", 1))


def test_request_that_has_waited_too_long_for_the_database_is_503(
    ann: UserClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tweens, "DatabaseBudget", lambda: DatabaseBudget(0))
    response = ann.post("/list", friendlist="1")
    assert (response.status, response.result) == (503, "0006")


def test_login_and_registration_while_password_hashing_is_busy_return_503(
    new_app: Callable[..., App], ann: UserClient, database_state: DatabaseState
) -> None:
    app = new_app(passwords__max_concurrent="1", passwords__queue_timeout_s="0.01")
    with app.registry.services.password_hashing.acquire(), database_state.assert_unchanged():
        response = ApiClient(app).post("/log", userId=ann.phone, password=PASSWORD)
        assert (response.status, response.result) == (503, "0008")
        form = {"register": "1", "userId": "13800000009", "password": PASSWORD}
        response = ApiClient(app).post("/register", **form)
        assert (response.status, response.result) == (503, "0006")
    assert ApiClient(app).post("/log", userId=ann.phone, password=PASSWORD).status == 200


def test_log_contains_no_phone_number_token_or_password(
    ann: UserClient,
    services: Services,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disconnect(services.database, monkeypatch)
    ann.post("/log", userId=ann.phone, password=PASSWORD)
    ann.send_friend_request(ann)
    assert "failed, service unavailable" in caplog.text
    for secret in (ann.phone, PASSWORD, ann.token):
        assert secret not in caplog.text
