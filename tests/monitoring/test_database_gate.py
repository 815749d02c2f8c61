"""The database gate: when requests are accepted after the start."""

import threading
from collections.abc import Callable, Iterator

import pytest

from livebackend.config.errors import DatabaseNotReady, DatabaseUnavailable
from livebackend.database.availability import DatabaseNotResponding
from livebackend.database.engine import Database
from livebackend.database.migrations import MigrationsMissing, check_migrated, migrate
from livebackend.monitoring.database_gate import DatabaseGate

WAIT_S = 20
UNREACHABLE = "postgresql://live@127.0.0.1:1/live"


@pytest.fixture
def empty_database(new_database: Callable[[str], str], worker_id: str) -> Iterator[Database]:
    database = Database(new_database(f"gate_{worker_id}"))
    yield database
    database.close()


def test_gate_of_a_migrated_database_opens_at_once(database: Database) -> None:
    gate = DatabaseGate(database, migrates=False)
    with pytest.raises(DatabaseNotResponding):
        gate.require_open()
    gate.try_to_open()
    gate.require_open()
    opened: list[bool] = []
    gate.start(lambda: opened.append(True))
    assert opened == [True]
    gate.close()


def test_unreachable_database_leaves_the_gate_closed(caplog: pytest.LogCaptureFixture) -> None:
    database = Database(UNREACHABLE)
    gate = DatabaseGate(database, migrates=True)
    for _ in range(3):
        gate.try_to_open()
    assert not gate.is_open
    # The same problem is logged once.
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    database.close()


def test_missing_migrations_of_a_reachable_database_are_an_error(empty_database: Database) -> None:
    with pytest.raises(MigrationsMissing):
        DatabaseGate(empty_database, migrates=False).try_to_open()


def test_gate_runs_missing_migrations_if_the_setting_allows_it(empty_database: Database) -> None:
    gate = DatabaseGate(empty_database, migrates=True)
    gate.try_to_open()
    assert gate.is_open
    check_migrated(empty_database)


def test_thread_opens_the_gate_after_a_migration_by_another_process(
    empty_database: Database,
) -> None:
    gate, opened = DatabaseGate(empty_database, migrates=False), threading.Event()
    gate.start(opened.set)
    assert not opened.wait(1.2)
    migrate(empty_database)
    assert opened.wait(WAIT_S)
    assert gate.is_open
    gate.close()


def test_database_that_does_not_exist_is_no_temporary_failure(database: Database) -> None:
    missing_database = Database(database.engine.url.set(database="missing_database"))
    with pytest.raises(DatabaseNotReady, match="does not exist") as raised:
        check_migrated(missing_database)
    assert not isinstance(raised.value, DatabaseUnavailable)
    missing_database.close()


def test_unreachable_database_is_a_temporary_failure() -> None:
    database = Database(UNREACHABLE)
    with pytest.raises(DatabaseUnavailable):
        check_migrated(database)
    database.close()
