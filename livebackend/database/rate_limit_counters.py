"""Counters of the rate limits in PostgreSQL, shared by all workers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, Boolean, Select, bindparam, case, cast, func, select, text, true

from livebackend.database.engine import Database
from livebackend.database.prepared_statements import PreparedStatement

# The function is in migrations/versions/1007_count_request_by_key.py; 1008 makes it use the index.
_COUNT_REQUEST = PreparedStatement(
    text(
        """
        SELECT retry_after_s FROM count_request(
            CAST(:keys AS text[]), CAST(:maximums AS integer[]), CAST(:windows_s AS integer[]),
            CAST(:counted AS boolean[]))
        """
    )
)
_ARE_EXHAUSTED = PreparedStatement(
    text(
        """
        SELECT EXISTS (
            SELECT FROM unnest(
                CAST(:keys AS text[]), CAST(:maximums AS integer[]), CAST(:windows_s AS integer[])
            ) AS rule (key, maximum, window_s)
            WHERE rule.maximum <= (
                SELECT sum(entry.count) FROM rate_limit_counters AS counter
                CROSS JOIN unnest(counter.times, counter.counts) AS entry (time, count)
                WHERE counter.key = rule.key
                    AND entry.time > clock_timestamp() - make_interval(secs => rule.window_s)
            )
        ) AS is_exhausted
        """
    )
)
# Subtracts one request from the newest entry of each counter. An entry of zero is removed, so that
# refused requests do not make the row longer.
_SUBTRACT_REQUEST = text(
    """
    UPDATE rate_limit_counters SET
        times = CASE WHEN is_last THEN trim_array(times, 1) ELSE times END,
        counts = CASE WHEN is_last THEN trim_array(counts, 1)
            ELSE counts[1 : size - 1] || counts[size] - 1 END
    FROM (
        SELECT key AS locked_key, cardinality(counts) AS size,
            counts[cardinality(counts)] = 1 AS is_last
        FROM rate_limit_counters WHERE key = ANY(:keys) AND cardinality(counts) > 0
        ORDER BY key COLLATE "C" FOR UPDATE -- the order in which count_request locks
    ) AS locked
    WHERE key = locked_key
    """
)
_DELETE_EXPIRED = text(
    """
    DELETE FROM rate_limit_counters WHERE key IN (
        SELECT key FROM rate_limit_counters WHERE expires_at < now()
        ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    """
)
# The keys of release 0.2 contain phone numbers and addresses.
_DELETE_EXPIRED_WINDOWS = text(
    """
    DELETE FROM rate_limit_windows WHERE key IN (
        SELECT key FROM rate_limit_windows WHERE expires_at < now()
        ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    """
)
_MAX_DELETED = 1000


class WindowRule(NamedTuple):
    """A rule for one client: at most `maximum` requests in each `window_s` seconds."""

    key: str
    maximum: int
    window_s: int
    # Whether the request is counted; if not, the rule is only checked.
    counted: bool


class CountingStatement(PreparedStatement):
    """A statement that selects a row and can count a request in the same round trip.

    If no row is selected, no request is counted.
    """

    def __init__(
        self, statement: Select[*tuple[Any, ...]], *, counts_all_if_null: str | None = None
    ) -> None:
        """Prepare `statement` with and without the count.

        If the column `counts_all_if_null` of the row is NULL, the request counts against all rules,
        also those that are otherwise only checked.
        """
        super().__init__(statement)
        row = statement.cte("selected")
        boolean_array = ARRAY(Boolean)
        counted: Any = cast(bindparam("counted"), boolean_array)
        if counts_all_if_null:
            all_counted = cast(bindparam("all_counted"), boolean_array)
            counted = case((row.c[counts_all_if_null].is_(None), all_counted), else_=counted)
        count = (
            func.count_request(
                bindparam("keys"), bindparam("maximums"), bindparam("windows_s"), counted
            )
            .table_valued("retry_after_s", name="count")
            .render_derived()
        )
        self.with_count = PreparedStatement(
            select(row, count.c.retry_after_s).select_from(row.outerjoin(count, true()))
        )


class RateLimitCounters:
    """Moving windows in the table `rate_limit_counters`. Each method commits at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, rules: Sequence[WindowRule]) -> float | None:
        """Count a request for all rules, or for none of them.

        Returns None if the request is counted, otherwise the seconds until it can succeed.
        """
        values = _count_values(rules)
        row = self._database.run_autocommit(
            lambda connection: _COUNT_REQUEST.first(connection, values)
        )
        return row.retry_after_s if row else None

    def select_and_count(
        self,
        statement: CountingStatement,
        values: Mapping[str, Any],
        rules: Sequence[WindowRule],
    ) -> tuple[Any, float | None]:
        """Select a row, and count a request if there is one; return both results.

        The second result is that of `count`.
        """
        all_values = {**values, **_count_values(rules)}
        row = self._database.run_autocommit(
            lambda connection: statement.with_count.first(connection, all_values)
        )
        return row, row.retry_after_s if row else None

    def select(self, statement: CountingStatement, values: Mapping[str, Any]) -> Any:
        """Select a row without counting a request; return None if there is no row."""
        return self._database.run_autocommit(lambda connection: statement.first(connection, values))

    def subtract(self, keys: Sequence[str]) -> None:
        """Subtract one request from each counter that is not zero."""
        self._database.run_autocommit(
            lambda connection: connection.execute(_SUBTRACT_REQUEST, {"keys": list(keys)})
        )

    def is_any_exhausted(self, rules: Sequence[WindowRule]) -> bool:
        """Return whether one of the rules would refuse a request, without counting it."""
        row = self._database.run_autocommit(
            lambda connection: _ARE_EXHAUSTED.first(
                connection,
                {
                    "keys": [rule.key for rule in rules],
                    "maximums": [rule.maximum for rule in rules],
                    "windows_s": [rule.window_s for rule in rules],
                },
            )
        )
        return bool(row.is_exhausted)

    def delete_expired(self) -> int:
        """Delete up to 1000 expired counters, and as many of release 0.2.

        Returns the number of deleted rows.
        """
        values = {"limit": _MAX_DELETED}
        return self._database.run_autocommit(
            lambda connection: sum(
                connection.execute(statement, values).rowcount
                for statement in (_DELETE_EXPIRED, _DELETE_EXPIRED_WINDOWS)
            )
        )

    def close(self) -> None:
        self._database.close()


def _count_values(rules: Sequence[WindowRule]) -> dict[str, Any]:
    """Return the parameters of the SQL function count_request, which needs sorted keys."""
    keys, maximums, windows_s, counted = map(list, zip(*sorted(rules), strict=True))
    return {
        "keys": keys,
        "maximums": maximums,
        "windows_s": windows_s,
        "counted": counted,
        "all_counted": [True] * len(keys),
    }
