"""Tests of failures of the database, the log, the clock and the server process."""

import errno
import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from livebackend.container import Services
from livebackend.database.engine import Database
from livebackend.services.login_tokens import LoginTokens
from tests.support.api import PASSWORD, App, PhoneClient, UserClient, run_concurrently
from tests.support.application import PRODUCTION_INI, replace_services
from tests.support.authenticated_calls import AUTHENTICATED_CALLS
from tests.support.database_state import AssertNoSideEffects, DatabaseState
from tests.support.raw_http import RawRequest, RawResponse
from tests.support.servers import HARDENED_SECRET, Server, hardened_settings, running_server


@contextmanager
def read_only_database(database: Database, services: Services) -> Iterator[None]:
    """Make the database read-only during the `with` block, like a standby server."""

    def alter_database(setting: str) -> None:
        name = database.engine.url.database
        with database.engine.execution_options(
            isolation_level="AUTOCOMMIT"
        ).connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} {setting}")
        # The setting applies only to new connections, so close the open connections of both pools.
        services.database.engine.dispose()
        services.rate_limits.close()

    alter_database("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        alter_database("RESET default_transaction_read_only")


def test_write_operations_with_a_read_only_database_return_503(
    ann: UserClient,
    ben: UserClient,
    database: Database,
    services: Services,
    assert_no_side_effects: AssertNoSideEffects,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_requests = [
        ("/register", {"token": "13800000009"}, "0002"),
        ("/room", {"live": "1"}, "0009"),
        ("/friend", {"add": "1", "userId": ben.phone}, "0006"),
        ("/golden", {"refill": "1", "money": "10"}, "0013"),
        ("/register", {"profile": "1", "nickname": "Anne"}, "0006"),
        ("/log", {"logout": "1"}, "0006"),
    ]
    with read_only_database(database, services), assert_no_side_effects():
        for path, form, expected_result in write_requests:
            caplog.clear()
            response = ann.post(path, **form)
            assert (response.status, response.result) == (503, expected_result)
            assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert ann.friends() == []
    assert ann.send_friend_request(ben).result == "0000"


@contextmanager
def locked_table(database: Database, table: str) -> Iterator[None]:
    """Hold a lock that blocks writes to a table."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        yield


def wait_for_blocked_backends(database: Database) -> list[int]:
    """Wait until a lock blocks at least one backend; return the blocked process ids."""
    for _ in range(200):
        with database.engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            blocked_pids = list(rows.scalars())
        if blocked_pids:
            return blocked_pids
        time.sleep(0.01)
    raise AssertionError("no backend waits for a lock")


@pytest.mark.processes
@pytest.mark.parametrize(
    ("path", "form", "table", "expected_result"),
    [
        ("/room", {"live": "1"}, "rooms", "0009"),
        ("/friend", {"add": "1", "userId": "13800000002"}, "friend_requests", "0006"),
        ("/register", {"profile": "1", "nickname": "Anne"}, "accounts", "0006"),
        ("/register", {"token": "13800000009"}, "verification_codes", "0002"),
        ("/log", {"logout": "1"}, "revoked_tokens", "0006"),
    ],
)
def test_operation_whose_database_backend_is_killed_returns_503_and_changes_nothing(
    path: str,
    form: dict[str, str],
    table: str,
    expected_result: str,
    ann: UserClient,
    ben: UserClient,
    database: Database,
    database_state: DatabaseState,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    def kill_blocked_backends() -> None:
        with database.engine.begin() as connection:
            for pid in wait_for_blocked_backends(database):
                connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")

    with assert_no_side_effects(), locked_table(database, table):
        response, _ = run_concurrently(partial(ann.post, path, **form), kill_blocked_backends)
    assert (response.status, response.result) == (503, expected_result)
    # The failed request counted towards its rate limit, so the test resets the limit.
    database_state.execute("DELETE FROM rate_limit_counters")
    assert ann.post(path, **form).result == "0000"


def test_operation_without_a_free_database_connection_returns_503(
    new_hardened_app: Callable[..., App],
    ann: UserClient,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    app = new_hardened_app(database__connections="1")
    client = ann.with_app(app)
    with app.registry.services.database.engine.connect(), assert_no_side_effects():
        responses = run_concurrently(
            partial(client.post, "/list", friendlist="1"),
            partial(client.post, "/room", live="1"),
            partial(client.post, "/log", userId=ann.phone, password=PASSWORD),
        )
    assert [(response.status, response.result) for response in responses] == [
        (503, "0006"),
        (503, "0009"),
        (503, "0008"),
    ]
    assert client.friends() == []


class FullDisk(io.StringIO):
    """A log stream on a disk without free space."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_requests_succeed_when_the_log_cannot_be_written(
    phone_of_ann: PhoneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = logging.StreamHandler(FullDisk())
    logger = logging.getLogger("livebackend")
    # Python reports the failure on standard error, which can be on the same full disk.
    monkeypatch.setattr("sys.stderr", FullDisk())
    logger.addHandler(handler)
    try:
        assert phone_of_ann.register().friends() == []
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("shift_s", "expected_result"),
    [
        pytest.param(-86_400, "0000", id="a day behind"),
        pytest.param(-3_600, "0000", id="an hour behind"),
        pytest.param(86_400, "0000", id="a day ahead"),
        pytest.param(8 * 86_400, "0011", id="eight days ahead"),
    ],
)
def test_operations_return_status_200_when_the_server_clock_is_wrong(
    shift_s: int,
    expected_result: str,
    app: App,
    ann: UserClient,
    phone_of_ben: PhoneClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_time = time.time

    def wrong_time() -> float:
        return real_time() + shift_s

    monkeypatch.setattr("time.time", wrong_time)
    login_tokens = LoginTokens([HARDENED_SECRET], clock=wrong_time)
    replace_services(app, monkeypatch, login_tokens=login_tokens)
    assert ann.post("/list", friendlist="1").result == expected_result
    for path, form in AUTHENTICATED_CALLS:
        assert ann.post(path, **form).status == 200
    # Verification codes and rate limits use the clock of the database, so they still work.
    ben = phone_of_ben.register()
    response = ben.post("/log", forgot="1", userId=ben.phone)
    assert (response.result, response.error) == ("0002", "request; reason=rate_limited")
    assert 50 < int(response.headers["Retry-After"]) <= 60
    assert ben.friends() == []


@pytest.mark.processes
def test_server_killed_during_a_request_restarts_with_the_committed_data(
    ann: UserClient,
    ben: UserClient,
    database: Database,
    database_state: DatabaseState,
    database_url: str,
    tmp_path: Path,
) -> None:
    def send(server: Server, path: str, other_parameters: str) -> RawResponse:
        return RawResponse.exchange(
            server, RawRequest(path, f"token={ann.token}&{other_parameters}").encode()
        )

    with running_server(PRODUCTION_INI, tmp_path, hardened_settings(database_url)) as server:
        first_response = send(server, "/room", "live=1")
        friend_request = RawRequest(
            "/friend", f"token={ann.token}&add=1&userId={ben.phone}"
        ).encode()
        with (
            database_state.assert_unchanged(),
            locked_table(database, "friend_requests"),
            server.connect() as connection,
        ):
            connection.sendall(friend_request)
            wait_for_blocked_backends(database)
            server.kill()
            assert connection.recv(1) == b""
    with running_server(PRODUCTION_INI, tmp_path, hardened_settings(database_url)) as server:
        assert send(server, "/room", "live=1").json == first_response.json
        assert send(server, "/room", "leave=1").json["result"] == "0000"
        assert send(server, "/friend", f"add=1&userId={ben.phone}").json["result"] == "0000"
