"""The database: one engine, and transactions that commit on return and roll back on raise."""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Executable, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from livebackend.config.errors import SettingsError
from livebackend.core.errors import CommitOutcomeUnknown, DomainError

T = TypeVar("T")

# What another transaction caused, and running ours again mends: a deadlock, a serialization
# failure, a key that somebody else took between our look and our write.
_RACES = {"40P01", "40001", "23505"}
_WRITE_WAL = text("SELECT pg_logical_emit_message(true, 'livebackend', '')")


class Database:
    """PostgreSQL behind a pool whose every wait is bounded.

    Raises SettingsError unless `url` begins with `postgresql://` or `postgresql+psycopg2://`.
    `on_close` is called when the connections are closed.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        pool_size: int = 10,
        pool_wait_s: float = 1,
        connect_wait_s: int = 2,
        lock_wait_s: float = 2,
        statement_wait_s: float = 3,
        autocommit: bool = False,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._on_close = on_close
        self.engine = create_engine(
            _driven(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_wait_s,
            pool_use_lifo=True,
            # Parameters are people's phones and messages: no log shows them.
            hide_parameters=True,
            # None: that of the options below, so that nobody need set it on a connection.
            isolation_level="AUTOCOMMIT" if autocommit else None,
            connect_args={
                "connect_timeout": connect_wait_s,
                "application_name": "livebackend",
                "options": "-c timezone=UTC -c default_transaction_isolation=read\\ committed"
                f" -c lock_timeout={lock_wait_s * 1000:.0f}"
                f" -c statement_timeout={statement_wait_s * 1000:.0f}"
                " -c idle_in_transaction_session_timeout=10000"
                # What is asked for all the time lies in memory, where a page anywhere costs as much
                # as the next: else a long list of friends reads the accounts from end to end.
                " -c random_page_cost=1.1",
            },
        )

    def run(self, work: Callable[[Connection], T], *, tries: int = 3) -> T:
        """Run `work` in a transaction, commit, and return its result; raising rolls back.

        A DomainError that `keeps_changes` is raised after the commit.
        A race that another transaction won runs `work` again, and so does a connection that was
        lost before COMMIT: most often it died in the pool. `work` runs `tries` times at most, so it
        must do nothing but SQL.
        Raises CommitOutcomeUnknown if the connection is lost during COMMIT.
        """
        for left in reversed(range(tries)):
            is_committing = False
            try:
                with self.engine.begin() as connection:
                    result = _kept_or_raised(work, connection)
                    is_committing = True
            except DBAPIError as error:
                if is_committing and is_connection_lost(error):
                    raise CommitOutcomeUnknown from error
                if not (left and (error.connection_invalidated or _is_race(error))):
                    raise
            else:
                if isinstance(result, DomainError):
                    raise result
                return result
        raise AssertionError("unreachable: the last try returns or raises")

    def singly(self, work: Callable[[Connection], T], *, tries: int = 3) -> T:
        """What `work` returns, each of whose statements stands, and commits, by itself.

        That saves the way there and back for a BEGIN and a COMMIT.
        """
        for left in reversed(range(tries)):
            try:
                with self.engine.connect() as connection:
                    return _autocommitted(connection, work)
            except DBAPIError as error:
                if not (left and error.connection_invalidated):
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    def await_replication(self) -> None:
        """Return when the synchronous standby has everything that is committed by now.

        Raises CommitOutcomeUnknown if the connection is lost meanwhile.
        """
        self.run(require_replication)

    def execute_one(self, statement: Executable, **values: Any) -> Any:
        """Execute a statement in a transaction of its own; return its row, or None."""

        def work(connection: Connection) -> Any:
            result = connection.execute(statement, values)
            return result.one_or_none() if result.returns_rows else None

        return self.run(work)

    def beside(self, pool_size: int) -> "Database":
        """The same database by connections of its own, so that neither use waits for the other.

        Each of its statements commits by itself.
        """
        return Database(self.engine.url, pool_size=pool_size, autocommit=True)

    def close(self) -> None:
        """Close the connections, and call `on_close`."""
        self.engine.dispose()
        if self._on_close:
            self._on_close()


def require_replication(connection: Connection) -> None:
    """Make the COMMIT of this transaction wait for the synchronous standby.

    A transaction needs this when it writes nothing and its result depends on an earlier commit.
    That commit can be visible without being replicated: its wait ends early when its backend is
    terminated or PostgreSQL restarts. PostgreSQL does not wait at the COMMIT of a transaction that
    wrote no WAL ("Read-only transactions and transaction rollbacks need not wait for replies from
    standby servers": PostgreSQL documentation, Synchronous Replication, and synchronous_commit in
    Write Ahead Log). An empty transactional message is a WAL record that changes no table.

    Without a synchronous standby, the cost is one flush of the WAL.
    """
    connection.execute(_WRITE_WAL)


def is_connection_lost(error: DBAPIError | NoConnection | CommitOutcomeUnknown) -> bool:
    """Return whether there is no connection any more, or none could be made.

    Source: PostgreSQL, appendix A: class 08 and 57P01 to 57P03. An error without a code is one of
    the driver's own: the connection could not be made.
    """
    if isinstance(error, NoConnection | CommitOutcomeUnknown) or error.connection_invalidated:
        return True
    cause: Any = error.orig
    code = getattr(cause, "pgcode", None)
    return code is None or code.startswith(("08", "57P"))


def _kept_or_raised(work: Callable[[Connection], T], connection: Connection) -> T | DomainError:
    """Return the result of `work`, or the error that keeps what `work` wrote."""
    try:
        return work(connection)
    except DomainError as error:
        if not error.keeps_changes:
            raise
        return error


def _autocommitted(connection: Connection, work: Callable[[Connection], T]) -> T:
    # SQLAlchemy's own way, by the isolation level, goes to the server each time.
    driver: Any = connection.connection.dbapi_connection
    before, driver.autocommit = driver.autocommit, True
    try:
        return work(connection)
    finally:
        if not driver.closed:
            driver.autocommit = before


def _driven(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError("database.url: is no URL") from None
    if parsed.drivername not in ("postgresql", "postgresql+psycopg2"):
        raise SettingsError("database.url: must begin with postgresql://")
    return parsed.set(drivername="postgresql+psycopg2")


def _is_race(error: DBAPIError) -> bool:
    cause: Any = error.orig
    return getattr(cause, "pgcode", None) in _RACES
