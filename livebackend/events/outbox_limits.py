"""The limits of the outbox, above which events are dropped."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Interval, bindparam, text

from livebackend.events.declarations import EVENTS
from livebackend.events.event_data import OutboxRow
from livebackend.events.numbering import (
    BATCH_SIZE,
    COLUMNS,
    IS_CLOSING,
    number_rows,
    parse_lines,
    rows_of_one_batch,
)

# An event that closes a channel is dropped only after this time: by then, the application has
# checked every connection again, because a connection lasts up to 10 minutes.
_CLOSING_MAX_AGE = timedelta(minutes=15)

_EXPIRED_ROWS = text(
    f"""
    SELECT {COLUMNS}
    FROM (SELECT * FROM outbox_events ORDER BY id LIMIT {BATCH_SIZE}) AS oldest
    WHERE created_at < clock_timestamp()
        - CASE WHEN {IS_CLOSING} THEN greatest(:max_age, :closing_max_age) ELSE :max_age END
    ORDER BY id
    """  # noqa: S608  # constants
).bindparams(
    bindparam("max_age", type_=Interval),
    bindparam("closing_max_age", _CLOSING_MAX_AGE, type_=Interval),
)
_OLDEST_ROWS_OF_TYPES = text(
    f"""
    SELECT {COLUMNS} FROM outbox_events
    WHERE type = ANY(CAST(:types AS varchar[])) ORDER BY id LIMIT :limit
    """  # noqa: S608  # constants
)
_COUNT_ROWS = text("SELECT count(*) FROM (SELECT FROM outbox_events LIMIT :limit) AS counted")
_DELETE_EXPIRED_BATCH = text(
    "DELETE FROM event_batches WHERE created_at < clock_timestamp() - :max_age RETURNING lines"
).bindparams(bindparam("max_age", type_=Interval))


class OutboxLimits(NamedTuple):
    """The limits above which events are dropped."""

    max_rows: int
    max_age: timedelta


def drop_excess(connection: Connection, limits: OutboxLimits) -> Counter[str]:
    """Drop events that exceed the limits of the outbox, BATCH_SIZE rows at most.

    Returns the number of dropped rows by type. A dropped event is numbered but not published, so
    that clients detect the gap. Too old events are dropped first, then events that are not
    important, then the oldest.
    """
    rows = connection.execute(_EXPIRED_ROWS, {"max_age": limits.max_age}).all()
    if not rows:
        count_limit = {"limit": limits.max_rows + BATCH_SIZE}
        row_count = connection.execute(_COUNT_ROWS, count_limit).scalar_one()
        rows = _oldest_unimportant_rows(connection, limit=row_count - limits.max_rows)
    dropped_rows = rows_of_one_batch([OutboxRow(*row) for row in rows])
    number_rows(connection, dropped_rows)
    return Counter(row.type for row in dropped_rows)


def drop_expired_batch(connection: Connection, limits: OutboxLimits) -> Counter[str]:
    """Drop the stored batch if it is too old; return the number of its events by type."""
    lines = connection.execute(_DELETE_EXPIRED_BATCH, {"max_age": limits.max_age}).scalars()
    return Counter(event.event.type for batch in lines for event in parse_lines(batch))


def _oldest_unimportant_rows(connection: Connection, *, limit: int) -> Sequence[Any]:
    """Return the oldest rows that are not important or, if there are none, the oldest rows.

    Never returns a row whose event closes a channel.
    """
    if limit <= 0:
        return ()
    types = [name for name, event in EVENTS.items() if not event.closes_channel]
    unimportant_types = [name for name in types if not EVENTS[name].important]
    for chosen_types in (unimportant_types, types):
        values = {"types": chosen_types, "limit": min(limit, BATCH_SIZE)}
        if rows := connection.execute(_OLDEST_ROWS_OF_TYPES, values).all():
            return rows
    return ()
