"""Transactions of `Database`: commit, rollback, retries and timeouts."""

import threading
import traceback
from functools import partial
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend import models
from livebackend.config.errors import SettingsError
from livebackend.core.errors import CommitOutcomeUnknown, DomainError
from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated
from tests.support.api import run_concurrently
from tests.support.database_state import DatabaseState
from tests.support.postgres_backends import backend_pid, terminate_backend

_INSERT = text("INSERT INTO code_attempts VALUES (:digest, ARRAY[now()], now())")


def insert_row(connection: Connection, digest: bytes = b"x") -> None:
    connection.execute(_INSERT, {"digest": digest})


def test_transaction_commits_when_its_function_returns(
    database: Database, database_state: DatabaseState
) -> None:
    def transaction(connection: Connection) -> str:
        insert_row(connection)
        return "done"

    assert database.run(transaction) == "done"
    assert len(database_state.rows("code_attempts")) == 1


@pytest.mark.parametrize("error", [DomainError(), RuntimeError(), SystemExit()])
def test_transaction_rolls_back_when_its_function_raises_an_error(
    error: BaseException, database: Database, database_state: DatabaseState
) -> None:
    def transaction(connection: Connection) -> None:
        insert_row(connection)
        raise error

    with pytest.raises(type(error)):
        database.run(transaction)
    assert database_state.rows("code_attempts") == []


class _DriverError(psycopg2.Error):
    """A psycopg2 error with the given SQLSTATE."""

    pgcode = ""

    def __init__(self, pgcode: str) -> None:
        super().__init__(pgcode)
        self.pgcode = pgcode


@pytest.mark.parametrize("sqlstate", ["40P01", "40001", "23505"])
def test_transaction_is_retried_after_a_conflict(
    sqlstate: str, database: Database, database_state: DatabaseState
) -> None:
    attempts = []

    def transaction(connection: Connection) -> str:
        attempts.append(1)
        insert_row(connection)
        if len(attempts) < 3:
            raise DBAPIError("x", {}, _DriverError(sqlstate))
        return "done"

    assert database.run(transaction) == "done"
    assert len(attempts) == 3
    assert len(database_state.rows("code_attempts")) == 1


def test_transaction_is_run_at_most_three_times(
    database: Database, database_state: DatabaseState
) -> None:
    attempts = []

    def transaction(connection: Connection) -> None:
        attempts.append(1)
        insert_row(connection)
        insert_row(connection)

    with pytest.raises(DBAPIError):
        database.run(transaction)
    assert len(attempts) == 3
    assert database_state.rows("code_attempts") == []


@pytest.mark.parametrize("sqlstate", ["57014", "55P03", "23514", "53300"])
def test_transaction_is_not_retried_after_other_database_errors(
    sqlstate: str, database: Database
) -> None:
    attempts = []

    def transaction(connection: Connection) -> None:
        attempts.append(1)
        raise DBAPIError("x", {}, _DriverError(sqlstate))

    with pytest.raises(DBAPIError):
        database.run(transaction)
    assert len(attempts) == 1


@pytest.mark.parametrize("method", ["run", "run_autocommit"])
def test_connection_that_was_lost_in_the_pool_is_replaced(
    method: str, database: Database, database_url: str, database_state: DatabaseState
) -> None:
    single_connection_database = Database(database_url, pool_size=1)
    run = getattr(single_connection_database, method)
    first_pid = run(backend_pid)
    terminate_backend(first_pid, database)
    assert run(backend_pid) != first_pid
    single_connection_database.close()


def test_transaction_is_retried_if_its_connection_is_lost_before_the_commit(
    database: Database, database_state: DatabaseState
) -> None:
    attempts = []

    def transaction(connection: Connection) -> None:
        attempts.append(1)
        insert_row(connection)
        if len(attempts) == 1:
            terminate_backend(backend_pid(connection), database)
        connection.execute(text("SELECT 1"))

    database.run(transaction)
    assert len(attempts) == 2
    assert len(database_state.rows("code_attempts")) == 1


def test_connection_lost_during_the_commit_raises_commit_outcome_unknown(
    database: Database,
) -> None:
    attempts = []

    def transaction(connection: Connection) -> None:
        attempts.append(1)
        terminate_backend(backend_pid(connection), database)

    with pytest.raises(CommitOutcomeUnknown):
        database.run(transaction)
    assert len(attempts) == 1


def test_autocommitted_statements_have_separate_transactions(database: Database) -> None:
    def transaction_times(connection: Connection) -> set[Any]:
        return {connection.execute(text("SELECT now()")).scalar_one() for _ in range(2)}

    assert len(database.run_autocommit(transaction_times)) == 2
    assert len(database.run(transaction_times)) == 1  # the connection has left autocommit mode


def test_both_deadlocked_transactions_succeed_in_the_end(
    database: Database, database_state: DatabaseState
) -> None:
    for digest in (b"a", b"b"):
        database.run(partial(insert_row, digest=digest))
    lock_barrier = threading.Barrier(2, timeout=5)
    thread_local = threading.local()

    def lock_transaction(first_digest: bytes, second_digest: bytes) -> Any:
        def transaction(connection: Connection) -> None:
            for digest in (first_digest, second_digest):
                connection.execute(
                    select(models.CodeAttempts.ticket_digest)
                    .where(models.CodeAttempts.ticket_digest == digest)
                    .with_for_update()
                )
                if digest == first_digest and not getattr(thread_local, "has_waited", False):
                    thread_local.has_waited = True
                    lock_barrier.wait()

        return lambda: database.run(transaction)

    run_concurrently(lock_transaction(b"a", b"b"), lock_transaction(b"b", b"a"))


def test_statement_pool_and_lock_timeouts_apply(
    database_url: str, database_state: DatabaseState
) -> None:
    short_timeouts = Database(
        database_url, pool_size=1, pool_timeout_s=0.05, lock_timeout_s=0.05, statement_timeout_s=0.3
    )
    with pytest.raises(OperationalError, match="statement timeout"):
        short_timeouts.run(lambda connection: connection.execute(text("SELECT pg_sleep(5)")))
    with short_timeouts.engine.begin(), pytest.raises(PoolTimeout):
        short_timeouts.run(lambda connection: None)
    default_timeouts = Database(database_url)
    with default_timeouts.engine.begin() as connection:
        connection.execute(text("LOCK TABLE verification_codes"))
        with pytest.raises(OperationalError, match="lock timeout"):
            short_timeouts.run(
                lambda other_connection: other_connection.execute(
                    text("LOCK TABLE verification_codes")
                )
            )
    for database in (short_timeouts, default_timeouts):
        database.close()


def test_session_time_zone_is_utc(database: Database) -> None:
    time_zone = database.run(
        lambda connection: connection.execute(text("SHOW timezone")).scalar_one()
    )
    assert time_zone == "UTC"


def test_postgresql_url_uses_psycopg2(database_url: str) -> None:
    plain_url_database = Database(database_url.replace("postgresql+psycopg2", "postgresql"))
    assert plain_url_database.engine.driver == "psycopg2"
    plain_url_database.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:par@t-of-password@127.0.0.1:1/x",
        "postgresql://user:par@t-of-password:x@127.0.0.1:port/x",
        "postgresql://user:x/par@t-of-password@127.0.0.1/x",
        "postgresql://user:p/@t-of-password/@127.0.0.1:1/x",
        "postgresql:/user:t-of-password@127.0.0.1/x",
        "t-of-password",
        "mysql://user:t-of-password@127.0.0.1/x",
        "postgresql://user:x@127.0.0.1:1/x?t-of-password=1",
        "postgresql://user:t-of-password#x@127.0.0.1:1/x",
    ],
)
def test_error_of_an_invalid_url_contains_no_part_of_the_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_migrated(Database(url, pool_size=1))
    trace = "".join(traceback.format_exception(caught.value))
    assert "t-of-password" not in trace
    assert caught.value.errors[0].startswith("database.url: ")
