"""Tests of database connections lost during COMMIT, and of the retries afterwards."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import psycopg2
import pytest

from livebackend.api.operation_declaration import operations
from livebackend.database.engine import Database
from tests.support.api import PASSWORD, ApiClient, ApiResponse, App, PhoneClient, UserClient
from tests.support.database_state import DatabaseState
from tests.support.payments import FAKE_PAYMENTS

SendRequest = Callable[[UserClient, UserClient], ApiResponse]


# Operations whose retry writes to the database again, for example another verification code.
NOT_IDEMPOTENT = {"send_code", "forgot_password", "upload", "reset_password"}
# Operations that send no COMMIT: they only read, run a single statement in autocommit mode,
# or submit transfers to the ledger's batch writer.
WITHOUT_COMMIT = {
    *("log_in", "heartbeat", "friendlist", "messagelist", "livelist", "search"),
    *("balance", "records", "ranking", "send_gift", "refill", "event_ticket"),
}


class ConnectionLoss:
    """Closes the database connection after a COMMIT, before the app gets the result."""

    def __init__(self, app: App) -> None:
        self._dialect = app.registry.services.database.engine.dialect

    def count_commits(self, send_request: Callable[[], ApiResponse]) -> int:
        """Send a request and return the number of its COMMITs."""
        response, commit_count = self._run(send_request, lost_commit_number=0)
        assert response.result == "0000", response
        return commit_count

    def send_and_disconnect(
        self, send_request: Callable[[], ApiResponse], *, commit_number: int
    ) -> ApiResponse:
        """Send a request; close its connection after its `commit_number`-th COMMIT."""
        return self._run(send_request, lost_commit_number=commit_number)[0]

    def _run(
        self, send_request: Callable[[], ApiResponse], *, lost_commit_number: int
    ) -> tuple[ApiResponse, int]:
        original_commit, commit_count = self._dialect.do_commit, 0

        def do_commit(connection: Any) -> None:
            nonlocal commit_count
            commit_count += 1
            original_commit(connection)
            if commit_count == lost_commit_number:
                connection.driver_connection.close()
                raise psycopg2.OperationalError("server closed the connection unexpectedly")

        self._dialect.do_commit = do_commit
        try:
            return send_request(), commit_count
        finally:
            self._dialect.do_commit = original_commit


@pytest.fixture
def connection_loss(app: App) -> ConnectionLoss:
    return ConnectionLoss(app)


def deal_with_only_message(ben: UserClient, behaviour: str) -> ApiResponse:
    (message,) = ben.messages()
    return ben.deal_message(message, behaviour)


def request_password_reset(ann: UserClient, _: UserClient) -> ApiResponse:
    response = ann.post("/log", forgot="1", userId=ann.phone)
    # The client adds these parameters to each later request of Ann.
    ann.default_parameters |= {
        "code_v": response.message,
        "code": PhoneClient(ann.app, ann.phone).received_codes[-1],
    }
    return response


def befriend(ann: UserClient, ben: UserClient) -> ApiResponse:
    ann.send_friend_request(ben)
    return deal_with_only_message(ben, "accept")


VERIFICATION_CODE = "1234"
UPLOADED_FILES = [("img", "ann.png", b"\x89PNG\r\n\x1a\n" + b"x" * 40)]
# By operation: preparation, request, default result code, result code of the retry.
COMMIT_CASES: dict[str, tuple[SendRequest | None, SendRequest, str, str]] = {
    "register": (
        None,
        lambda ann, _: ann.post(
            "/register", register="1", userId="13800000009", password=PASSWORD, token=""
        ),
        "0006",
        "0006",
    ),
    "send_code": (
        None,
        lambda ann, _: ann.post("/register", token="13800000009"),
        "0002",
        "0000",
    ),
    "upload": (
        None,
        lambda ann, _: ann.post_form("/upload", {"token": ann.token}, upload_files=UPLOADED_FILES),
        "0006",
        "0000",
    ),
    "verify_code": (
        None,
        lambda ann, _: ann.post("/register", code_v=VERIFICATION_CODE, code=VERIFICATION_CODE),
        "0004",
        "0000",
    ),
    "forgot_password": (
        None,
        lambda ann, _: ann.post("/log", forgot="1", userId=ann.phone),
        "0002",
        "0000",
    ),
    "reset_password": (
        request_password_reset,
        lambda ann, _: ann.post("/log", reset="1", userId=ann.phone, password="another-42"),
        "0006",
        "0004",
    ),
    "change_profile": (
        None,
        lambda ann, _: ann.post("/register", profile="1", nickname="Anna"),
        "0006",
        "0000",
    ),
    "remove": (
        None,
        lambda ann, _: ann.post("/register", remove="1", password=PASSWORD),
        "0006",
        "0012",
    ),
    "log_out": (None, lambda ann, _: ann.post("/log", logout="1"), "0006", "0012"),
    "change_password": (
        None,
        lambda ann, _: ann.post("/log", change="1", oldPassword=PASSWORD, password="another-42"),
        "0006",
        "0012",
    ),
    "live": (None, lambda ann, _: ann.go_live(), "0009", "0000"),
    "leave": (
        lambda ann, _: ann.go_live(),
        lambda ann, _: ann.post("/room", leave="1"),
        "0009",
        "0009",
    ),
    "add": (None, lambda ann, ben: ann.send_friend_request(ben), "0006", "0000"),
    "add after a request of the other user": (
        lambda ann, ben: ben.send_friend_request(ann),
        lambda ann, ben: ann.send_friend_request(ben),
        "0006",
        "0010",
    ),
    "deal_message": (
        lambda ann, ben: ann.send_friend_request(ben),
        lambda _, ben: deal_with_only_message(ben, "accept"),
        "0006",
        "0000",
    ),
    "unfriend": (
        befriend,
        lambda ann, ben: ann.post("/friend", delete="1", userId=ben.phone),
        "0006",
        "0006",
    ),
    "block": (
        None,
        lambda ann, ben: ann.post("/friend", block="1", userId=ben.phone),
        "0006",
        "0000",
    ),
    "unblock": (
        lambda ann, ben: ann.post("/friend", block="1", userId=ben.phone),
        lambda ann, ben: ann.post("/friend", unblock="1", userId=ben.phone),
        "0006",
        "0000",
    ),
}


def test_every_operation_has_a_commit_case_or_is_listed_without_commit(app: App) -> None:
    operation_names = {name.partition(" ")[0] for name in COMMIT_CASES}
    assert operation_names | WITHOUT_COMMIT == {
        operation.name for operation in operations(app.registry)
    }


@pytest.mark.parametrize("name", COMMIT_CASES)
class TestOperationsThatWrite:
    def test_connection_lost_during_any_commit_is_503_with_unknown_outcome(
        self,
        name: str,
        connection_loss: ConnectionLoss,
        ann: UserClient,
        ben: UserClient,
        api: ApiClient,
        database_state: DatabaseState,
    ) -> None:
        prepare, send_request, default_result_code, _ = COMMIT_CASES[name]
        if prepare:
            prepare(ann, ben)
        commit_count = connection_loss.count_commits(lambda: send_request(ann, ben))
        assert commit_count
        for commit_number in range(1, commit_count + 1):
            database_state.empty()
            users = [api.register_user(user.phone) for user in (ann, ben)]
            if prepare:
                prepare(*users)
            response = connection_loss.send_and_disconnect(
                partial(send_request, *users), commit_number=commit_number
            )
            assert (response.status, response.result) == (503, default_result_code)
            assert response.headers["X-Request-Outcome"] == "unknown"
            assert int(response.headers["Retry-After"]) > 0

    def test_retry_after_a_connection_lost_in_the_last_commit_has_the_expected_result(
        self,
        name: str,
        connection_loss: ConnectionLoss,
        ann: UserClient,
        ben: UserClient,
        api: ApiClient,
        database_state: DatabaseState,
    ) -> None:
        prepare, send_request, _, retry_result_code = COMMIT_CASES[name]
        if prepare:
            prepare(ann, ben)
        commit_count = connection_loss.count_commits(lambda: send_request(ann, ben))
        database_state.empty()
        ann, ben = api.register_user(ann.phone), api.register_user(ben.phone)
        if prepare:
            prepare(ann, ben)
        connection_loss.send_and_disconnect(
            lambda: send_request(ann, ben), commit_number=commit_count
        )
        with nullcontext() if name in NOT_IDEMPOTENT else database_state.assert_unchanged():
            assert send_request(ann, ben).result == retry_result_code


def test_retry_of_a_refill_with_unknown_outcome_returns_the_same_order(
    new_app: Callable[..., App], ann: UserClient, database_state: DatabaseState
) -> None:
    app = new_app(coins__refill="order", payments__gateway=FAKE_PAYMENTS)
    buyer = ann.with_app(app)
    response = ConnectionLoss(app).send_and_disconnect(lambda: buyer.refill("10"), commit_number=1)
    assert (response.status, response.body) == (503, {"result": "0013", "message": "update failed"})
    assert response.headers["X-Request-Outcome"] == "unknown"
    retry_response = buyer.refill("10", requestId=response.headers["X-Retry-Request-Id"])
    assert retry_response.message["state"] == "pending"
    assert len(database_state.rows("payment_orders")) == 1


def test_server_retries_a_request_whose_connection_was_lost_before_the_commit(
    connection_loss: ConnectionLoss, ann: UserClient, ben: UserClient, database: Database
) -> None:
    terminate_backends_sql = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    )
    with database.engine.connect() as connection:
        connection.exec_driver_sql(f"{terminate_backends_sql} AND datname = current_database()")
    response = ann.send_friend_request(ben)
    assert (response.status, response.result) == (200, "0000")
    assert "X-Request-Outcome" not in response.headers
