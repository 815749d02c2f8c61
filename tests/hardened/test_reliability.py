"""What breaks around us: the database, the log, the clock, the process itself."""

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
from tests.support.api import PASSWORD, App, Person, Phone, at_once
from tests.support.application import PRODUCTION_INI, replace_services
from tests.support.authenticated_calls import AUTHENTICATED_CALLS
from tests.support.database_state import AssertNoSideEffects, DatabaseState
from tests.support.raw_http import Call, Heard
from tests.support.servers import HARDENED_SECRET, Server, hardened, serving

GIFT = {"value": "1", "object": "13800000002", "description": "a rose"}


@contextmanager
def read_only(database: Database, services: Services) -> Iterator[None]:
    """A database that takes nothing more, as a standby does, or one that is short of room."""

    def let(setting: str) -> None:
        name = database.engine.url.database
        with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as operator:
            operator.exec_driver_sql(f"ALTER DATABASE {name} {setting}")
        # The setting applies to new connections: both pools open them as needed.
        services.database.engine.dispose()
        services.rate_limits.close()

    let("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        let("RESET default_transaction_read_only")


def test_a_database_that_only_reads_is_503_for_what_writes(
    ann: Person,
    ben: Person,
    database: Database,
    services: Services,
    assert_no_side_effects: AssertNoSideEffects,
    caplog: pytest.LogCaptureFixture,
) -> None:
    writes = [
        ("/register", {"token": "13800000009"}, "0002"),
        ("/room", {"live": "1"}, "0009"),
        ("/friend", {"add": "1", "userId": ben.phone}, "0006"),
        ("/golden", {"refill": "1", "money": "10"}, "0013"),
        ("/register", {"profile": "1", "nickname": "Anne"}, "0006"),
        ("/log", {"logout": "1"}, "0006"),
    ]
    with read_only(database, services), assert_no_side_effects():
        for path, form, refusal in writes:
            caplog.clear()
            answer = ann.post(path, **form)
            assert (answer.status, answer.result) == (503, refusal)
            assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert ann.friends() == []
    assert ann.add(ben).result == "0000"


@contextmanager
def locked(database: Database, table: str) -> Iterator[None]:
    """Keeps everybody from writing into a table."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        yield


def who_waits(database: Database) -> list[int]:
    """The backends that wait for a lock; it is waited for the first."""
    for _ in range(200):
        with database.engine.connect() as connection:
            found = connection.exec_driver_sql(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            pids = list(found.scalars())
        if pids:
            return pids
        time.sleep(0.01)
    raise AssertionError("nobody waits")


@pytest.mark.processes
@pytest.mark.parametrize(
    ("path", "form", "table", "refusal"),
    [
        ("/room", {"live": "1"}, "rooms", "0009"),
        ("/friend", {"add": "1", "userId": "13800000002"}, "friend_requests", "0006"),
        ("/register", {"profile": "1", "nickname": "Anne"}, "accounts", "0006"),
        ("/register", {"token": "13800000009"}, "verification_codes", "0002"),
        ("/log", {"logout": "1"}, "revoked_tokens", "0006"),
    ],
)
def test_a_backend_that_is_killed_in_a_transaction_leaves_nothing_of_it(
    path: str,
    form: dict[str, str],
    table: str,
    refusal: str,
    ann: Person,
    ben: Person,
    database: Database,
    database_state: DatabaseState,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    def kill() -> None:
        with database.engine.begin() as connection:
            for pid in who_waits(database):
                connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")

    with assert_no_side_effects(), locked(database, table):
        answer, _ = at_once(partial(ann.post, path, **form), kill)
    assert (answer.status, answer.result) == (503, refusal)
    database_state.execute(
        "DELETE FROM rate_limit_windows"
    )  # where it is counted, it stays counted
    assert ann.post(path, **form).result == "0000"


def test_who_finds_no_connection_is_503_in_a_second(
    new_hardened_app: Callable[..., App], ann: Person, assert_no_side_effects: AssertNoSideEffects
) -> None:
    app = new_hardened_app(database__connections="1")
    person = Person(app, ann.always, ann.phone)
    with app.registry.services.database.engine.connect(), assert_no_side_effects():
        answers = at_once(
            partial(person.post, "/list", friendlist="1"),
            partial(person.post, "/room", live="1"),
            partial(person.post, "/log", userId=ann.phone, password=PASSWORD),
        )
    assert [(answer.status, answer.result) for answer in answers] == [
        (503, "0006"),
        (503, "0009"),
        (503, "0008"),
    ]
    assert person.friends() == []


class FullDisk(io.StringIO):
    """A log that takes nothing more."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_stops_nobody(
    phone_of_ann: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = logging.StreamHandler(FullDisk())
    log = logging.getLogger("livebackend")
    # Python says so on its standard error, which may be as full.
    monkeypatch.setattr("sys.stderr", FullDisk())
    log.addHandler(handler)
    try:
        assert phone_of_ann.register().friends() == []
    finally:
        log.removeHandler(handler)


@pytest.mark.parametrize(
    ("shift_s", "token"),
    [
        pytest.param(-86_400, "0012", id="a day behind"),
        pytest.param(-3_600, "0012", id="an hour behind"),
        pytest.param(-60, "0000", id="a minute behind"),
        pytest.param(86_400, "0000", id="a day ahead"),
        pytest.param(8 * 86_400, "0011", id="eight days ahead"),
    ],
)
def test_a_clock_that_is_wrong_breaks_nothing(
    shift_s: int,
    token: str,
    app: App,
    ann: Person,
    phone_of_ben: Phone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = time.time

    def wrong() -> float:
        return right() + shift_s

    monkeypatch.setattr("time.time", wrong)
    tokens = LoginTokens([HARDENED_SECRET], clock=wrong)
    replace_services(app, monkeypatch, login_tokens=tokens)
    assert ann.post("/list", friendlist="1").result == token
    for path, form in AUTHENTICATED_CALLS:
        assert ann.post(path, **form).status == 200
    # Whoever comes now notices nothing: codes and limits are of the database's time.
    ben = phone_of_ben.register()
    answer = ben.post("/log", forgot="1", userId=ben.phone)
    assert (answer.result, answer.refusal) == ("0002", "call was tried too often")
    assert 50 < int(answer.headers["Retry-After"]) <= 60
    assert ben.friends() == []


@pytest.mark.processes
def test_a_server_that_was_killed_starts_again_where_it_stood(
    ann: Person,
    ben: Person,
    database: Database,
    database_state: DatabaseState,
    database_url: str,
    tmp_path: Path,
) -> None:
    def say(server: Server, path: str, form: str) -> Heard:
        return Heard.to(server, Call(path, f"token={ann.token}&{form}").on_the_wire())

    with serving(PRODUCTION_INI, tmp_path, hardened(database_url)) as server:
        live = say(server, "/room", "live=1")
        asked = Call("/friend", f"token={ann.token}&add=1&userId={ben.phone}").on_the_wire()
        with (
            database_state.unchanged(),
            locked(database, "friend_requests"),
            server.connect() as connection,
        ):
            connection.sendall(asked)
            who_waits(database)
            server.kill()
            assert connection.recv(1) == b""
    with serving(PRODUCTION_INI, tmp_path, hardened(database_url)) as server:
        assert say(server, "/room", "live=1").json == live.json
        assert say(server, "/room", "leave=1").json["result"] == "0000"
        assert say(server, "/friend", f"add=1&userId={ben.phone}").json["result"] == "0000"
