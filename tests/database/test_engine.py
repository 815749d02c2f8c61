"""Transactions: returning commits, raising rolls back, a lost race runs again."""

import threading
from functools import partial
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from livebackend import models
from livebackend.core.errors import CommitOutcomeUnknown, DomainError
from livebackend.database.engine import Database
from tests.support.api import at_once
from tests.support.backends import backend_pid, terminate_backend
from tests.support.database_state import DatabaseState

_ADD = text("INSERT INTO code_attempts VALUES (:digest, ARRAY[now()], now())")


def add(connection: Connection, digest: bytes = b"x") -> None:
    connection.execute(_ADD, {"digest": digest})


def test_returning_commits(database: Database, database_state: DatabaseState) -> None:
    def work(connection: Connection) -> str:
        add(connection)
        return "done"

    assert database.run(work) == "done"
    assert len(database_state.rows("code_attempts")) == 1


@pytest.mark.parametrize("error", [DomainError(), RuntimeError(), SystemExit()])
def test_raising_rolls_back(
    error: BaseException, database: Database, database_state: DatabaseState
) -> None:
    def work(connection: Connection) -> None:
        add(connection)
        raise error

    with pytest.raises(type(error)):
        database.run(work)
    assert database_state.rows("code_attempts") == []


class _Race(psycopg2.Error):
    """An error as PostgreSQL reports it."""

    pgcode = ""

    def __init__(self, pgcode: str) -> None:
        super().__init__(pgcode)
        self.pgcode = pgcode


@pytest.mark.parametrize("code", ["40P01", "40001", "23505"])
def test_a_lost_race_runs_again(
    code: str, database: Database, database_state: DatabaseState
) -> None:
    tries = []

    def work(connection: Connection) -> str:
        tries.append(1)
        add(connection)
        if len(tries) < 3:
            raise DBAPIError("x", {}, _Race(code))
        return "done"

    assert database.run(work) == "done"
    assert len(tries) == 3
    assert len(database_state.rows("code_attempts")) == 1


def test_three_times_at_most(database: Database, database_state: DatabaseState) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        add(connection)
        add(connection)

    with pytest.raises(DBAPIError):
        database.run(work)
    assert len(tries) == 3
    assert database_state.rows("code_attempts") == []


@pytest.mark.parametrize("code", ["57014", "55P03", "23514", "53300"])
def test_nothing_else_runs_again(code: str, database: Database) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        raise DBAPIError("x", {}, _Race(code))

    with pytest.raises(DBAPIError):
        database.run(work)
    assert len(tries) == 1


@pytest.mark.parametrize("way", ["run", "singly"])
def test_a_connection_that_died_in_the_pool_costs_nobody_his_call(
    way: str, database: Database, database_url: str, database_state: DatabaseState
) -> None:
    short = Database(database_url, pool_size=1)
    do = getattr(short, way)
    before = do(backend_pid)
    terminate_backend(before, database)
    assert do(backend_pid) != before
    short.close()


def test_what_broke_before_its_commit_runs_again(
    database: Database, database_state: DatabaseState
) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        add(connection)
        if len(tries) == 1:
            terminate_backend(backend_pid(connection), database)
        connection.execute(text("SELECT 1"))

    database.run(work)
    assert len(tries) == 2
    assert len(database_state.rows("code_attempts")) == 1


def test_connection_lost_during_commit_leaves_the_outcome_unknown(database: Database) -> None:
    tries = []

    def work(connection: Connection) -> None:
        tries.append(1)
        terminate_backend(backend_pid(connection), database)

    with pytest.raises(CommitOutcomeUnknown):
        database.run(work)
    assert len(tries) == 1


def test_each_statement_may_stand_by_itself(database: Database) -> None:
    def times(connection: Connection) -> set[Any]:
        return {connection.execute(text("SELECT now()")).scalar_one() for _ in range(2)}

    assert len(database.singly(times)) == 2
    assert len(database.run(times)) == 1  # on the same connection, most likely


def test_a_deadlock_ends_well_for_both(database: Database, database_state: DatabaseState) -> None:
    for digest in (b"a", b"b"):
        database.run(partial(add, digest=digest))
    both_hold_one = threading.Barrier(2, timeout=5)
    first_time = threading.local()

    def lock(first: bytes, second: bytes) -> Any:
        def work(connection: Connection) -> None:
            for digest in (first, second):
                connection.execute(
                    select(models.CodeAttempts.ticket_digest)
                    .where(models.CodeAttempts.ticket_digest == digest)
                    .with_for_update()
                )
                if digest == first and not getattr(first_time, "over", False):
                    first_time.over = True
                    both_hold_one.wait()

        return lambda: database.run(work)

    at_once(lock(b"a", b"b"), lock(b"b", b"a"))


def test_every_wait_is_bounded(database_url: str, database_state: DatabaseState) -> None:
    impatient = Database(
        database_url, pool_size=1, pool_wait_s=0.05, lock_wait_s=0.05, statement_wait_s=0.3
    )
    with pytest.raises(OperationalError, match="statement timeout"):
        impatient.run(lambda connection: connection.execute(text("SELECT pg_sleep(5)")))
    with impatient.engine.begin(), pytest.raises(NoConnection):
        impatient.run(lambda connection: None)
    patient = Database(database_url)
    with patient.engine.begin() as connection:
        connection.execute(text("LOCK TABLE verification_codes"))
        with pytest.raises(OperationalError, match="lock timeout"):
            impatient.run(lambda other: other.execute(text("LOCK TABLE verification_codes")))
    for each in (impatient, patient):
        each.close()


def test_times_are_utc(database: Database) -> None:
    zone = database.run(lambda connection: connection.execute(text("SHOW timezone")).scalar_one())
    assert zone == "UTC"


def test_postgresql_url_means_psycopg2(database_url: str) -> None:
    plain = Database(database_url.replace("postgresql+psycopg2", "postgresql"))
    assert plain.engine.driver == "psycopg2"
    plain.close()
