"""The connection pool, transactions with retries, and the wait for replication."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Executable, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.config.errors import SettingsError
from livebackend.core.errors import CommitOutcomeUnknown, DomainError

T = TypeVar("T")

# Conflicts with a concurrent transaction, which a retry resolves: deadlock, serialization failure,
# and a unique key that another transaction inserted first.
_RETRIED_SQLSTATES = {"40P01", "40001", "23505"}
_WRITE_EMPTY_WAL_RECORD = text("SELECT pg_logical_emit_message(true, 'livebackend', '')")


class Database:
    """A pool of PostgreSQL connections; every wait has a timeout.

    Raises SettingsError unless `url` begins with `postgresql://` or `postgresql+psycopg2://`.
    If `durable` is false, a COMMIT does not wait for the disk and the standby: a crash or a
    failover can lose the transactions of the last second. `close` calls `on_close`.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        pool_size: int = 10,
        pool_timeout_s: float = 1,
        connect_timeout_s: int = 2,
        lock_timeout_s: float = 2,
        statement_timeout_s: float = 3,
        autocommit: bool = False,
        durable: bool = True,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._on_close = on_close
        self.engine = create_engine(
            _psycopg2_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_s,
            pool_use_lifo=True,
            # Parameters contain phone numbers and messages, which must not be logged.
            hide_parameters=True,
            # With None, SQLAlchemy sends no SET statement to each connection: `options` below sets
            # the isolation level.
            isolation_level="AUTOCOMMIT" if autocommit else None,
            connect_args={
                "connect_timeout": connect_timeout_s,
                "application_name": "livebackend",
                "options": "-c timezone=UTC -c default_transaction_isolation=read\\ committed"
                f" -c lock_timeout={lock_timeout_s * 1000:.0f}"
                f" -c statement_timeout={statement_timeout_s * 1000:.0f}"
                " -c idle_in_transaction_session_timeout=10000"
                # Frequently read pages are in memory, where random access is as fast as sequential
                # access. With the default of 4, PostgreSQL reads the whole table `accounts` for a
                # long friend list.
                " -c random_page_cost=1.1"
                f" -c synchronous_commit={'on' if durable else 'off'}",
            },
        )

    def run(self, work: Callable[[Connection], T], *, tries: int = 3) -> T:
        """Run `work` in a transaction and return its result; roll back if it raises.

        A DomainError with `keeps_changes` is raised after the commit.
        After a conflict with a concurrent transaction, or a connection lost before COMMIT, `work`
        runs again, at most `tries` times in all. So `work` must have no effects outside SQL.
        Raises CommitOutcomeUnknown if the connection is lost during COMMIT.
        """
        for remaining_tries in reversed(range(tries)):
            is_committing = False
            try:
                with self.engine.begin() as connection:
                    result = _result_or_error(work, connection)
                    is_committing = True
            except DBAPIError as error:
                if is_committing and is_connection_lost(error):
                    raise CommitOutcomeUnknown from error
                if not (remaining_tries and (error.connection_invalidated or _is_conflict(error))):
                    raise
            else:
                if isinstance(result, DomainError):
                    raise result
                return result
        raise AssertionError("unreachable: the last try returns or raises")

    def run_autocommit(self, work: Callable[[Connection], T], *, tries: int = 3) -> T:
        """Run `work` in autocommit mode and return its result.

        Each statement commits on its own, which saves the round trips for BEGIN and COMMIT.
        """
        for remaining_tries in reversed(range(tries)):
            try:
                with self.engine.connect() as connection:
                    return _run_in_autocommit_mode(connection, work)
            except DBAPIError as error:
                if not (remaining_tries and error.connection_invalidated):
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    def await_replication(self) -> None:
        """Wait until the synchronous standby has all earlier committed transactions.

        Raises CommitOutcomeUnknown if the connection is lost during the wait.
        """
        self.run(require_replication)

    def execute_one(self, statement: Executable, **values: Any) -> Any:
        """Execute a statement in a separate transaction; return its row, or None."""

        def execute(connection: Connection) -> Any:
            result = connection.execute(statement, values)
            return result.one_or_none() if result.returns_rows else None

        return self.run(execute)

    def with_own_pool(self, pool_size: int, *, durable: bool = True) -> "Database":
        """Return a Database with the same URL and a separate pool, in autocommit mode."""
        return Database(self.engine.url, pool_size=pool_size, autocommit=True, durable=durable)

    def close(self) -> None:
        """Close the connections, and call `on_close`."""
        self.engine.dispose()
        if self._on_close:
            self._on_close()


def require_replication(connection: Connection) -> None:
    """Make the COMMIT of the open transaction wait for the synchronous standby.

    A transaction needs this when it writes nothing and its result depends on an earlier commit.
    The earlier commit can be visible before it is replicated: the wait for the standby ends early
    when PostgreSQL restarts, or when the backend that waits is terminated.
    PostgreSQL does not wait at the COMMIT of a transaction that wrote no WAL ("Read-only
    transactions and transaction rollbacks need not wait for replies from standby servers":
    PostgreSQL documentation, Synchronous Replication, and synchronous_commit in Write Ahead Log).
    So this function writes an empty transactional message, a WAL record that changes no table.

    Without a synchronous standby, the cost is one flush of the WAL.
    """
    connection.execute(_WRITE_EMPTY_WAL_RECORD)


def is_connection_lost(error: DBAPIError | PoolTimeout | CommitOutcomeUnknown) -> bool:
    """Return whether the connection was lost or could not be established.

    A lost connection has an SQLSTATE of class 08 or 57P01 to 57P03 (PostgreSQL documentation,
    appendix A). An error without SQLSTATE comes from the driver, which could not connect.
    """
    if isinstance(error, PoolTimeout | CommitOutcomeUnknown) or error.connection_invalidated:
        return True
    driver_error: Any = error.orig
    sqlstate = getattr(driver_error, "pgcode", None)
    return sqlstate is None or sqlstate.startswith(("08", "57P"))


def _result_or_error(work: Callable[[Connection], T], connection: Connection) -> T | DomainError:
    """Call `work`; return its result, or the error after which the transaction commits.

    Such an error is a DomainError whose `keeps_changes` is true; other errors are raised.
    """
    try:
        return work(connection)
    except DomainError as error:
        if not error.keeps_changes:
            raise
        return error


def _run_in_autocommit_mode(connection: Connection, work: Callable[[Connection], T]) -> T:
    # The attribute of psycopg2 is set directly, because SQLAlchemy's isolation level AUTOCOMMIT
    # costs a round trip.
    driver_connection: Any = connection.connection.dbapi_connection
    previous_autocommit, driver_connection.autocommit = driver_connection.autocommit, True
    try:
        return work(connection)
    finally:
        if not driver_connection.closed:
            driver_connection.autocommit = previous_autocommit


def _psycopg2_url(url: str | URL) -> URL:
    try:
        parsed_url = make_url(url)
    except (ArgumentError, ValueError):
        raise SettingsError("database.url: is not a valid URL") from None
    if parsed_url.drivername not in ("postgresql", "postgresql+psycopg2"):
        raise SettingsError("database.url: must begin with postgresql://")
    # Otherwise, error messages of PostgreSQL would contain the end of the password as a host.
    if re.search(r"[@\s]", f"{parsed_url.host or ''}{parsed_url.database or ''}"):
        raise SettingsError(
            "database.url: is not a valid URL: write special characters of the password in percent"
            " encoding, such as %40 for @"
        )
    return parsed_url.set(drivername="postgresql+psycopg2")


def _is_conflict(error: DBAPIError) -> bool:
    driver_error: Any = error.orig
    return getattr(driver_error, "pgcode", None) in _RETRIED_SQLSTATES
