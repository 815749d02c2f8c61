"""Numbering: turns rows of the outbox into numbered events, in the caller's transaction.

Only one process at a time can number events. An event keeps its number and its data when the
process ends before the event is published, because its batch is stored.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, text

from livebackend.database.prepared_statements import PreparedStatement
from livebackend.events.channels import assign_numbers, delete_channels_of_removed_accounts
from livebackend.events.declarations import EVENTS, FORMAT_VERSION, closes_channel
from livebackend.events.event_data import (
    OutboxRow,
    UnnumberedEvent,
    direct_events,
    friend_events,
)
from livebackend.gateways.events.protocol import MAX_EVENT_BYTES, ChannelEvent, PublishedEvent

# The maximum number of outbox rows, of transfers (unless one row has more), and of receivers of an
# event to friends, in one transaction.
BATCH_SIZE = 200
# The fields that are left out of an event with more than MAX_EVENT_BYTES.
_LONG_FIELDS = ("headImage", "playUrl")

# The columns of an OutboxRow.
COLUMNS = (
    "id, type, account_id, subject_id, transfer_ids, detail, numbered_through_id,"
    """ to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS time"""
)
# SQL: whether the event of a row closes its channel, as the index ix_outbox_events_closing has it.
IS_CLOSING = "type IN ('account_disabled', 'login_revoked')"

# The index, not the table, which can have many deleted rows. EXISTS would ignore the order.
_ANY_EVENT = PreparedStatement(
    text(
        """
    (SELECT id FROM outbox_events ORDER BY id LIMIT 1)
    UNION ALL (SELECT id FROM event_batches ORDER BY id LIMIT 1)
    """
    )
)
# The events that close a channel come first: they must not wait for the others.
_NEXT_ROWS = PreparedStatement(
    text(
        f"""
    (SELECT {COLUMNS} FROM outbox_events WHERE {IS_CLOSING} ORDER BY id LIMIT {BATCH_SIZE})
    UNION ALL
    (SELECT {COLUMNS} FROM (SELECT * FROM outbox_events ORDER BY id LIMIT {BATCH_SIZE}) AS oldest
        WHERE NOT {IS_CLOSING} ORDER BY id)
    """  # noqa: S608  # constants
    )
)
_DELETE_ROWS = PreparedStatement(
    text("DELETE FROM outbox_events WHERE id = ANY(CAST(:ids AS bigint[]))")
)
_MARK_NUMBERED = text(
    "UPDATE outbox_events SET numbered_through_id = :through_id WHERE id = :row_id"
)
_STORED_BATCH = PreparedStatement(
    text("SELECT id, lines FROM event_batches WHERE id <> :published_id ORDER BY id LIMIT 1")
)
_REPLACE_BATCH = PreparedStatement(
    text(
        """
    WITH published AS (DELETE FROM event_batches WHERE id = :published_id)
    INSERT INTO event_batches (lines)
    SELECT lines FROM (SELECT CAST(:lines AS text) AS lines) AS batch WHERE lines IS NOT NULL
    RETURNING id
    """
    )
)


class Batch(NamedTuple):
    """Events in the order in which they must be published.

    `id` is that of the stored batch; 0 if there are no events. `is_last` is false if the outbox can
    have more rows now.
    """

    id: int
    events: Sequence[ChannelEvent]
    is_last: bool = False


NO_BATCH = Batch(0, ())


def has_no_events(connection: Connection) -> bool:
    """Return whether no event waits for its number or its publication."""
    return _ANY_EVENT.first(connection, {}) is None


def next_batch(connection: Connection, *, published_id: int) -> Batch:
    """Return the stored batch; if it is the published one, number the next events instead.

    The new batch replaces the published one. A stored batch with another id is that of another
    process, which may not have published it completely.
    """
    if stored := _STORED_BATCH.first(connection, {"published_id": published_id}):
        return Batch(stored.id, parse_lines(stored.lines))
    rows = [OutboxRow(*row) for row in _NEXT_ROWS.run(connection, {})]
    batch_rows = rows_of_one_batch(rows)
    events = number_rows(connection, batch_rows)
    is_last = len(batch_rows) == len(rows) < BATCH_SIZE and not any(map(_is_to_friends, rows))
    lines = b"\n".join(numbered.event.body for numbered in events).decode()
    values = {"published_id": published_id, "lines": lines or None}
    batch = _REPLACE_BATCH.first(connection, values)
    return Batch(batch.id if batch else 0, events, is_last)


def parse_lines(lines: str) -> list[ChannelEvent]:
    """Return the events of a stored batch."""
    events = []
    # splitlines() would also split at characters inside a JSON string, such as U+2028.
    for line in lines.split("\n"):
        content = orjson.loads(line)
        event = PublishedEvent(content["type"], line.encode())
        events.append(ChannelEvent(content["channel"], event))
    return events


def rows_of_one_batch(rows: Sequence[OutboxRow]) -> Sequence[OutboxRow]:
    """Return the first row if it is an event to friends, else the rows before such an event.

    The rows have BATCH_SIZE transfers at most, unless the first row alone has more.
    """
    transfer_count = 0
    for number, row in enumerate(rows):
        transfer_count += len(row.transfer_ids or ())
        if number and (transfer_count > BATCH_SIZE or _is_to_friends(row)):
            return rows[:number]
        if _is_to_friends(row):
            return rows[:1]
    return rows


def number_rows(connection: Connection, batch_rows: Sequence[OutboxRow]) -> list[ChannelEvent]:
    """Number the events of the rows of one batch, and remove the rows from the outbox."""
    if not batch_rows:
        return []
    through_id = None
    if _is_to_friends(batch_rows[0]):
        events, through_id = friend_events(connection, batch_rows[0], limit=BATCH_SIZE)
    else:
        events = direct_events(connection, batch_rows)
    if through_id is None:
        _DELETE_ROWS.run(connection, {"ids": [row.id for row in batch_rows]})
    else:
        connection.execute(_MARK_NUMBERED, {"through_id": through_id, "row_id": batch_rows[0].id})
    numbered_events = _with_numbers(connection, events)
    closing_ids = [row.account_id for row in batch_rows if closes_channel(row.type)]
    if closing_ids:
        delete_channels_of_removed_accounts(connection, closing_ids)
    return numbered_events


def _is_to_friends(row: OutboxRow) -> bool:
    return row.type in EVENTS and EVENTS[row.type].to_friends


def _with_numbers(connection: Connection, events: Sequence[UnnumberedEvent]) -> list[ChannelEvent]:
    """Number events in their order; leave out the events of channels that are not open."""
    counts = Counter(event.channel for event in events)
    last_numbers = assign_numbers(connection, counts) if counts else {}
    next_numbers = {name: seq - counts[name] + 1 for name, seq in last_numbers.items()}
    numbered_events = []
    for event in events:
        if event.channel in next_numbers:
            numbered_events.append(_numbered_event(event, next_numbers[event.channel]))
            next_numbers[event.channel] += 1
    return numbered_events


def _numbered_event(event: UnnumberedEvent, seq: int) -> ChannelEvent:
    content = {
        "v": FORMAT_VERSION,
        "type": event.type,
        "channel": event.channel,
        "seq": seq,
        "time": event.time,
        "data": event.data,
    }
    body = orjson.dumps(content)
    if len(body) > MAX_EVENT_BYTES:
        body = orjson.dumps(content | {"data": _without_long_fields(event.data)})
    return ChannelEvent(event.channel, PublishedEvent(event.type, body))


def _without_long_fields(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    return {
        name: None if name in _LONG_FIELDS else _without_long_fields(value)
        for name, value in data.items()
    }
