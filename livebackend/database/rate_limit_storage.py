"""Storage for the `limits` library in PostgreSQL, shared by all server processes."""

from itertools import count
from typing import Any

from limits.storage import MovingWindowSupport, Storage
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from livebackend.database.engine import Database
from livebackend.database.prepared_statements import Prepared

_SWEEP_EVERY = 16

# clock_timestamp(), not now(): whoever waited for the row's lock counts from when he has it.
_ACQUIRE = Prepared(
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
    ) <= :most
    RETURNING true
    """
    )
)
_WINDOW = text(
    """
    SELECT coalesce(extract(epoch FROM min(hit)), extract(epoch FROM now()))::float8 AS start,
        count(hit) AS hits
    FROM rate_limit_windows, unnest(hits) AS hit
    WHERE key = :key AND hit > now() - make_interval(secs => :expiry)
    """
)
_NOW = text("SELECT extract(epoch FROM now())::float8")
_EXPIRY = text(
    "SELECT extract(epoch FROM expires_at)::float8 FROM rate_limit_windows WHERE key = :key"
)
_CLEAR = text("DELETE FROM rate_limit_windows WHERE key = :key")
_CLEAR_ALL = text("DELETE FROM rate_limit_windows")
_SWEEP = text(
    """
    DELETE FROM rate_limit_windows WHERE key IN (
        SELECT key FROM rate_limit_windows WHERE expires_at < now()
        ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)
    """
)


class PostgresWindows(Storage, MovingWindowSupport):
    """Keeps the `limits` library's moving windows in a table; other windows it does not keep.

    Each call is one statement that commits by itself, whatever becomes of the operation that made
    it.
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
        # So that the table is never larger than the traffic; what is left then is the sweeper's.
        if next(self._calls) % _SWEEP_EVERY == 0:
            self.sweep()
        window = {"key": key, "amount": amount, "expiry": expiry, "most": limit}
        return (
            self._database.singly(lambda connection: _ACQUIRE.first(connection, window)) is not None
        )

    def sweep(self) -> None:
        # By itself: rows that two sweepers lock in different orders are no deadlock then.
        self._run(_SWEEP)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        found = self._run(_WINDOW, key=key, expiry=expiry)
        return found.start, found.hits

    def now(self) -> float:
        """Seconds since 1970 by the clock that windows are kept by: a server's own may be wrong."""
        return float(self._run(_NOW)[0])

    def get(self, key: str) -> int:
        raise NotImplementedError("it keeps moving windows only")

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError("it keeps moving windows only")

    def get_expiry(self, key: str) -> float:
        found = self._run(_EXPIRY, key=key)
        return float(found[0]) if found else 0.0

    def check(self) -> bool:
        return self._run(text("SELECT 1")) is not None

    def clear(self, key: str) -> None:
        self._run(_CLEAR, key=key)

    def reset(self) -> int | None:
        self._run(_CLEAR_ALL)
        return None

    def _run(self, statement: Any, **values: Any) -> Any:
        def work(connection: Connection) -> Any:
            result = connection.execute(statement, values)
            return result.one_or_none() if result.returns_rows else None

        return self._database.singly(work)
