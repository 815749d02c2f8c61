"""Channels: the streams of events to which clients subscribe."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, Interval, bindparam, text

from livebackend.database.prepared_statements import PreparedStatement

_USER_PREFIX = "user."
# Events are numbered and published only if a client has opened the channel within this time. It is
# longer than a connection (10 minutes) and the maximum of `events.replay_s` (40 minutes) together.
CHANNEL_TTL = timedelta(hours=1)
# A ticket for a channel that was opened within this time changes nothing.
_REOPEN_AFTER = timedelta(minutes=10)
# A channel whose events were not published skips a number, so that a client with an older number
# detects the gap. The transaction of an event can have begun a little before that of a ticket.
_SKIP_AFTER = CHANNEL_TTL - timedelta(minutes=5)

_FIND_OPEN_CHANNEL = text(
    "SELECT seq FROM event_channels WHERE name = :name AND opened_at > now() - :reopen_after"
).bindparams(bindparam("reopen_after", _REOPEN_AFTER, type_=Interval))
_OPEN_CHANNEL = text(
    """
    INSERT INTO event_channels AS channel (name) VALUES (:name)
    ON CONFLICT (name) DO UPDATE SET opened_at = now(),
        seq = channel.seq + CAST(channel.opened_at < now() - :skip_after AS integer)
    RETURNING seq
    """
).bindparams(bindparam("skip_after", _SKIP_AFTER, type_=Interval))
_DELETE_CHANNELS_OF_REMOVED_ACCOUNTS = text(
    f"""
    DELETE FROM event_channels USING accounts
    WHERE accounts.id = ANY(CAST(:account_ids AS bigint[])) AND removed_at IS NOT NULL
        AND event_channels.name = '{_USER_PREFIX}' || accounts.id
    """  # noqa: S608  # a constant
)
# SQL: whether the channel of a row is open.
IS_OPEN = f"opened_at > now() - interval '{CHANNEL_TTL.total_seconds():.0f} s'"
_ASSIGN_NUMBERS = PreparedStatement(
    text(
        f"""
    UPDATE event_channels SET seq = seq + assigned.events
    FROM unnest(CAST(:names AS varchar[]), CAST(:counts AS bigint[])) AS assigned (name, events)
    WHERE event_channels.name = assigned.name
        AND {IS_OPEN}
    RETURNING event_channels.name, seq
    """  # noqa: S608  # a constant
    )
)


def user_channel(account_id: int) -> str:
    """Return the name of the channel of a user."""
    return f"{_USER_PREFIX}{account_id}"


def open_channel(connection: Connection, name: str) -> int:
    """Open a channel for 50 to 60 minutes; return the number of its last event.

    Only events of open channels are published. A client with a lower number has missed events.
    """
    seq: int | None = connection.execute(_FIND_OPEN_CHANNEL, {"name": name}).scalar_one_or_none()
    if seq is None:
        seq = connection.execute(_OPEN_CHANNEL, {"name": name}).scalar_one()
    return seq


def delete_channels_of_removed_accounts(
    connection: Connection, account_ids: Sequence[int | None]
) -> None:
    """Delete the channels of those accounts that are removed: they cannot be opened again."""
    connection.execute(_DELETE_CHANNELS_OF_REMOVED_ACCOUNTS, {"account_ids": account_ids})


def assign_numbers(connection: Connection, counts: dict[str, int]) -> dict[str, int]:
    """Assign the next numbers to events; return the last number of each open channel.

    `counts` has the number of events by channel.
    """
    names, event_counts = list(counts), list(counts.values())
    rows = _ASSIGN_NUMBERS.run(connection, {"names": names, "counts": event_counts})
    return {row.name: row.seq for row in rows}
