"""PostgreSQL storage for the `limits` library, shared by all workers."""

from itertools import count
from typing import Any

from limits.storage import MovingWindowSupport, Storage
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from livebackend.database.engine import Database
from livebackend.database.prepared_statements import PreparedStatement

_CALLS_PER_DELETION = 16

# The statement uses clock_timestamp() instead of now(), so that the wait for the row lock does not
# make the time of a hit too early.
_ACQUIRE = PreparedStatement(
    text(
        """
    INSERT INTO rate_limit_windows AS w (key, hits, expires_at)
    VALUES (:key, array_fill(clock_timestamp(), ARRAY[CAST(:amount AS integer)]),
        clock_timestamp() + make_interval(secs => :expiry))
    ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at, hits = ARRAY(
            SELECT hit FROM unnest(w.hits) AS hit
            WHERE hit > clock_timestamp() - make_interval(secs => :expiry)
        ) || excluded.hits
    WHERE :amount + (
        SELECT count(*) FROM unnest(w.hits) AS hit
        WHERE hit > clock_timestamp() - make_interval(secs => :expiry)
    ) <= :limit
    RETURNING true
    """
    )
)
_SELECT_WINDOW = text(
    """
    SELECT coalesce(extract(epoch FROM min(hit)), extract(epoch FROM now()))::float8 AS start,
        count(hit) AS hits
    FROM rate_limit_windows, unnest(hits) AS hit
    WHERE key = :key AND hit > now() - make_interval(secs => :expiry)
    """
)
_SELECT_NOW = text("SELECT extract(epoch FROM now())::float8")
_SELECT_EXPIRY = text(
    "SELECT extract(epoch FROM expires_at)::float8 FROM rate_limit_windows WHERE key = :key"
)
_CLEAR = text("DELETE FROM rate_limit_windows WHERE key = :key")
_CLEAR_ALL = text("DELETE FROM rate_limit_windows")
_DELETE_EXPIRED = text(
    """
    DELETE FROM rate_limit_windows WHERE key IN (
        SELECT key FROM rate_limit_windows WHERE expires_at < now()
        ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)
    """
)


class PostgresRateLimitStorage(Storage, MovingWindowSupport):
    """Stores the moving windows of the `limits` library in a table.

    Fixed windows are not supported. Each method commits its changes at once: a hit counts even if
    the API operation fails later.
    """

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._calls = count()

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return SQLAlchemyError

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        if amount > limit:
            return False
        # Some calls delete expired windows: the table stays small between housekeeping runs.
        if next(self._calls) % _CALLS_PER_DELETION == 0:
            self.delete_expired()
        parameters = {"key": key, "amount": amount, "expiry": expiry, "limit": limit}
        return (
            self._database.run_autocommit(lambda connection: _ACQUIRE.first(connection, parameters))
            is not None
        )

    def delete_expired(self) -> None:
        """Delete up to 100 expired windows."""
        self._run(_DELETE_EXPIRED)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        window = self._run(_SELECT_WINDOW, key=key, expiry=expiry)
        return window.start, window.hits

    def now(self) -> float:
        """Return the time of PostgreSQL's clock, in seconds since 1970."""
        return float(self._run(_SELECT_NOW)[0])

    def get(self, key: str) -> int:
        raise NotImplementedError("PostgresRateLimitStorage supports only moving windows")

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError("PostgresRateLimitStorage supports only moving windows")

    def get_expiry(self, key: str) -> float:
        row = self._run(_SELECT_EXPIRY, key=key)
        return float(row[0]) if row else 0.0

    def check(self) -> bool:
        return self._run(text("SELECT 1")) is not None

    def clear(self, key: str) -> None:
        self._run(_CLEAR, key=key)

    def reset(self) -> int | None:
        self._run(_CLEAR_ALL)
        return None

    def _run(self, statement: Any, **values: Any) -> Any:
        def execute(connection: Connection) -> Any:
            result = connection.execute(statement, values)
            return result.one_or_none() if result.returns_rows else None

        return self._database.run_autocommit(execute)
