"""The connection pool, transactions with retries, and the wait for replication."""

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    ExceptionContext,
    Executable,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.config.errors import SettingsError
from livebackend.core.errors import CommitOutcomeUnknown, DomainError
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.database.availability import Availability, DatabaseNotResponding
from livebackend.database.call_deadlines import (
    MIN_CONNECT_TIMEOUT_S,
    WatchedPool,
    call_with_deadline,
    remove_deadline,
)

T = TypeVar("T")

# Conflicts with a concurrent transaction, which a retry resolves: deadlock, serialization failure,
# and a unique key that another transaction inserted first.
_RETRIED_SQLSTATES = {"40P01", "40001", "23505"}
# Limit of a call outside of a request, whose transaction can have many statements.
_CALL_TIMEOUT_S = 30.0
# Errors of a standby, such as a primary has become after a failover, or will be after a promotion:
# "read-only transaction" and "cannot access temporary or unlogged relations during recovery". The
# second code has other causes too, such as a prepared statement whose result type has changed. A
# new connection resolves all of them, so their connection is replaced.
RECONNECT_SQLSTATES = {"25006", "0A000"}
# The pause before the last try on a new connection, for a promotion that is almost complete.
_RECONNECT_PAUSE_S = 0.1
# Seconds after which TCP ends a connection whose host no longer acknowledges packets. A parameter
# of the URL takes precedence. Unix sockets ignore them.
_TCP_PARAMETERS = {
    "keepalives": 1,
    "keepalives_idle": 3,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5000,  # milliseconds
}
_DISABLE_STATEMENT_TIMEOUT = text("SET LOCAL statement_timeout = 0")
# The execution option of the engine whose connections are in autocommit mode.
_AUTOCOMMIT = "livebackend_autocommit"
_WRITE_EMPTY_WAL_RECORD = text("SELECT pg_logical_emit_message(true, 'livebackend', '')")


class Database:
    """A pool of PostgreSQL connections; every wait has a timeout.

    Raises SettingsError unless `url` begins with `postgresql://` or `postgresql+psycopg2://`.
    If `durable` is false, a COMMIT does not wait for the disk and the standby: a crash or a
    failover can lose the transactions of the last second. `close` calls `on_close`.
    A use of a connection ends after `call_timeout_s`, also if PostgreSQL does not respond at all;
    in a request, the request's `database_budget` can end it earlier. Databases with the same
    `availability` share the knowledge whether PostgreSQL responds.
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
        call_timeout_s: float = _CALL_TIMEOUT_S,
        autocommit: bool = False,
        durable: bool = True,
        availability: Availability | None = None,
        on_close: Callable[[], None] | None = None,
        server_thread: SupervisedThread | None = None,
    ) -> None:
        self._on_close = on_close
        # The thread that restarts PostgreSQL, if this process runs it.
        self.server_thread = server_thread
        self._call_timeout_s = call_timeout_s
        self.availability = availability or Availability()
        database_url = _psycopg2_url(url)
        self.engine = create_engine(
            database_url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_s,
            pool_use_lifo=True,
            # Parameters contain phone numbers and messages, which must not be logged.
            hide_parameters=True,
            # With None, SQLAlchemy sends no SET statement to each connection: `options` below sets
            # the isolation level.
            isolation_level="AUTOCOMMIT" if autocommit else None,
            skip_autocommit_rollback=True,
            connect_args={
                **{
                    name: value
                    for name, value in _TCP_PARAMETERS.items()
                    if name not in database_url.query
                },
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
        if not autocommit:
            event.listen(self.engine, "engine_connect", _set_driver_mode)
        # Has the same pool.
        self.autocommit_engine = self.engine.execution_options(**{_AUTOCOMMIT: True})
        self._host_count = str(database_url.query.get("host", "")).count(",") + 1
        url_has_timeout = "connect_timeout" in database_url.query
        self.pool = WatchedPool(
            self.engine,
            self.availability,
            size=pool_size,
            timeout_s=call_timeout_s,
            connect_timeout_s=None if url_has_timeout else connect_timeout_s,
        )
        event.listen(self.engine, "handle_error", _replace_connection_to_standby)

    def run(self, work: Callable[[Connection], T], *, tries: int = 3) -> T:
        """Run `work` in a transaction and return its result; roll back if it raises.

        A DomainError with `keeps_changes` is raised after the commit.
        After a conflict with a concurrent transaction, or if the connection is lost before COMMIT
        or leads to a standby, `work` runs again, at most `tries` times in all. So `work` must have
        no effects outside SQL. Raises CommitOutcomeUnknown if the connection is lost during COMMIT.
        """

        def run_transaction() -> T | DomainError:
            is_committing = False
            try:
                with self.engine.begin() as connection:
                    result = _result_or_error(work, connection)
                    is_committing = True
            except DBAPIError as error:
                if is_committing and is_connection_lost(error):
                    raise CommitOutcomeUnknown from error
                raise
            return result

        result = self._try(run_transaction, tries, retries_conflicts=True)
        if isinstance(result, DomainError):
            raise result
        return result

    def run_autocommit(self, work: Callable[[Connection], T], *, tries: int = 3) -> T:
        """Run `work` in autocommit mode and return its result.

        Each statement commits on its own, which saves the round trips for BEGIN and COMMIT.
        `work` runs again if the connection is lost or leads to a standby.
        """

        def run_statements() -> T:
            with self.autocommit_engine.connect() as connection:
                return work(connection)

        return self._try(run_statements, tries, retries_conflicts=False)

    def _try(self, call: Callable[[], T], tries: int, *, retries_conflicts: bool) -> T:
        def call_until(deadline: float) -> T:
            for remaining_tries in reversed(range(tries)):
                try:
                    return self.availability.call(call)
                except DBAPIError as error:
                    is_conflict = retries_conflicts and _is_conflict(error)
                    may_retry = is_conflict or _may_reconnect(error)
                    min_duration_s = (
                        0.0 if is_conflict else self._host_count * MIN_CONNECT_TIMEOUT_S
                    )
                    is_too_late = time.monotonic() + min_duration_s > deadline
                    if not (remaining_tries and may_retry) or is_too_late:
                        raise
                    if remaining_tries == 1 and not is_conflict:
                        time.sleep(_RECONNECT_PAUSE_S)
            raise AssertionError("unreachable: the last try returns or raises")

        return call_with_deadline(call_until, self._call_timeout_s)

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

    def with_own_pool(
        self, pool_size: int, *, durable: bool = True, call_timeout_s: float = _CALL_TIMEOUT_S
    ) -> "Database":
        """Return a Database with the same URL and a separate pool, in autocommit mode."""
        return Database(
            self.engine.url,
            pool_size=pool_size,
            call_timeout_s=call_timeout_s,
            autocommit=True,
            durable=durable,
            availability=self.availability,
        )

    def close(self) -> None:
        """Close the connections, and call `on_close`."""
        self.engine.dispose()
        if self._on_close:
            self._on_close()


def disable_timeouts(connection: Connection) -> None:
    """Let the open transaction and its statements take as long as they need."""
    connection.execute(_DISABLE_STATEMENT_TIMEOUT)
    remove_deadline(connection)


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


def _set_driver_mode(connection: Connection) -> None:
    """Set the mode of a connection that the pool has returned.

    The attribute of psycopg2 is set directly, because SQLAlchemy's isolation level AUTOCOMMIT costs
    a round trip. It keeps its value until a use needs the other mode: psycopg2 releases the
    interpreter's lock (GIL) while it sets the attribute, and the request would wait for the lock.
    """
    options = connection.get_execution_options()
    if "isolation_level" in options:
        return  # SQLAlchemy sets the mode
    driver_connection: Any = connection.connection.dbapi_connection
    is_autocommit = _AUTOCOMMIT in options
    # The first statement of a closed connection fails, and SQLAlchemy replaces the connection.
    if not driver_connection.closed and driver_connection.autocommit != is_autocommit:
        driver_connection.autocommit = is_autocommit


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


def _replace_connection_to_standby(context: ExceptionContext) -> None:
    """Make SQLAlchemy treat an error of a standby like a lost connection, and replace its pool."""
    if getattr(context.original_exception, "pgcode", None) in RECONNECT_SQLSTATES:
        context.is_disconnect = True


def _may_reconnect(error: DBAPIError) -> bool:
    """Return whether a new connection can resolve the error."""
    if isinstance(error, DatabaseNotResponding):
        return False
    # The connection could not be established: the driver reports no SQLSTATE and no statement.
    is_not_connected = error.statement is None and getattr(error.orig, "pgcode", None) is None
    return error.connection_invalidated or is_not_connected


def _is_conflict(error: DBAPIError) -> bool:
    driver_error: Any = error.orig
    return getattr(driver_error, "pgcode", None) in _RETRIED_SQLSTATES
