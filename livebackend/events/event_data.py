"""Finds the receivers and the data of the events in the outbox."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from livebackend.database.prepared_statements import PreparedStatement
from livebackend.events.channels import IS_OPEN, user_channel
from livebackend.events.declarations import EVENTS, EventType

# The values of TransferKind, which belongs to the ledger, a layer above this one.
_TRANSFER_KINDS = {1: "gift", 2: "refill", 9: "reversal"}
_PROFILE_COLUMNS = "phone, public_id, nickname, gender, head_image"

# The users whose coins a transfer changes; an external account has no user. The balances are read
# once for each account, because a host can receive many gifts at a time.
_COIN_CHANGES = PreparedStatement(
    text(
        f"""
    WITH changes AS (
        SELECT transfers.id AS transfer_id, kind, owner_id, coin_account_id, change
        FROM transfers
        CROSS JOIN LATERAL (VALUES (debit_id, -amount), (credit_id, amount))
            AS side (coin_account_id, change)
        JOIN coin_accounts ON coin_accounts.id = side.coin_account_id
        JOIN event_channels ON event_channels.name = 'user.' || owner_id AND {IS_OPEN}
        WHERE transfers.id = ANY(CAST(:transfer_ids AS bigint[]))
    ), balances AS (
        SELECT coin_account_id, sum(amount)::bigint AS balance FROM coin_slots
        WHERE coin_account_id IN (SELECT coin_account_id FROM changes) GROUP BY 1
    )
    SELECT transfer_id, kind, owner_id, change, balance
    FROM changes JOIN balances USING (coin_account_id)
    """  # noqa: S608  # a constant
    )
)
# The profiles of the users that events are about. Returns no row for a removed account, and none if
# one of the two users has blocked the other.
_PROFILES = PreparedStatement(
    text(
        f"""
    SELECT event_id, {_PROFILE_COLUMNS},
        EXISTS (SELECT FROM friendships
            WHERE account_id = receiver_id AND friend_id = accounts.id) AS is_friend
    FROM unnest(CAST(:event_ids AS bigint[]), CAST(:receiver_ids AS bigint[]),
        CAST(:subject_ids AS bigint[])) AS event (event_id, receiver_id, subject_id)
    JOIN accounts ON accounts.id = subject_id
    WHERE phone IS NOT NULL AND NOT EXISTS (
        SELECT FROM blocks WHERE (account_id = receiver_id AND blocked_id = subject_id)
            OR (account_id = subject_id AND blocked_id = receiver_id))
    """  # noqa: S608  # a constant
    )
)
_HOST = PreparedStatement(
    text(
        f"""
    SELECT {_PROFILE_COLUMNS}, title, play_urls FROM accounts
    LEFT JOIN rooms ON rooms.id = :room_id AND state = 'open'
    WHERE accounts.id = :host_id AND phone IS NOT NULL
    """  # noqa: S608  # a constant
    )
)
_FRIENDS_WITH_CHANNEL = PreparedStatement(
    text(
        f"""
    SELECT friend_id FROM friendships
    JOIN event_channels ON event_channels.name = 'user.' || friend_id AND {IS_OPEN}
    WHERE account_id = :host_id AND friend_id > :after_id AND NOT EXISTS (
        SELECT FROM blocks WHERE (blocks.account_id = friend_id AND blocked_id = :host_id)
            OR (blocks.account_id = :host_id AND blocked_id = friend_id))
    ORDER BY friend_id LIMIT :limit
    """  # noqa: S608  # a constant
    )
)


# The receivers and the data of the events about coins, by transfer id.
CoinChanges = Mapping[int, Sequence[tuple[int, Mapping[str, Any]]]]
Profile = Mapping[str, str | None]


class OutboxRow(NamedTuple):
    """A row of the outbox, as the model OutboxEvent describes it."""

    id: int
    type: str
    account_id: int | None
    subject_id: int | None
    transfer_ids: list[int] | None
    detail: str | None
    numbered_through_id: int
    # As clients receive it: 2026-11-26T14:47:42.123456Z.
    time: str


class UnnumberedEvent(NamedTuple):
    """An event for one channel that has no number yet."""

    channel: str
    type: str
    time: str
    data: Mapping[str, Any]


class FriendEvents(NamedTuple):
    """The events for some friends; `through_id` is None after the last friends."""

    events: list[UnnumberedEvent]
    through_id: int | None


def direct_events(connection: Connection, rows: Sequence[OutboxRow]) -> list[UnnumberedEvent]:
    """Return the events of rows that are not events to friends, in the order of the rows."""
    coin_changes = _coin_changes(connection, rows)
    profiles = _profiles(connection, rows)
    return [
        UnnumberedEvent(user_channel(user_id), row.type, row.time, data)
        for row in rows
        for user_id, data in _receivers(row, coin_changes, profiles)
    ]


def friend_events(connection: Connection, row: OutboxRow, *, limit: int) -> FriendEvents:
    """Return the next events of a row that is an event to friends, `limit` at most."""
    host = _HOST.first(connection, {"host_id": row.account_id, "room_id": row.subject_id})
    is_live_event = row.type == EventType.FRIEND_LIVE
    if host is None or (is_live_event and host.play_urls is None):
        return FriendEvents([], None)  # the host is no longer live, or has removed the account
    data: dict[str, Any] = {"user": _friend(host)}
    if is_live_event:
        data |= {"title": host.title, "playUrl": host.play_urls}
    values = {"host_id": row.account_id, "after_id": row.numbered_through_id, "limit": limit}
    friend_ids = [friend.friend_id for friend in _FRIENDS_WITH_CHANNEL.run(connection, values)]
    return FriendEvents(
        [
            UnnumberedEvent(user_channel(friend_id), row.type, row.time, data)
            for friend_id in friend_ids
        ],
        friend_ids[-1] if len(friend_ids) == limit else None,
    )


def _receivers(
    row: OutboxRow, coin_changes: CoinChanges, profiles: Mapping[int, Profile]
) -> Sequence[tuple[int, Mapping[str, Any]]]:
    """Return the users who receive an event, each with the data of the event."""
    if row.transfer_ids is not None:
        return [
            receiver
            for transfer_id in row.transfer_ids
            for receiver in coin_changes.get(transfer_id, ())
        ]
    if row.account_id is None or row.type not in EVENTS:
        return ()  # an event type of a later version
    if row.subject_id is None:
        return [(row.account_id, {} if row.detail is None else {"text": row.detail})]
    user = profiles.get(row.id)
    return [(row.account_id, {"user": user})] if user else ()


def _coin_changes(connection: Connection, rows: Sequence[OutboxRow]) -> CoinChanges:
    """Return the receivers and the data of the events about coins."""
    transfer_ids = [transfer_id for row in rows for transfer_id in row.transfer_ids or ()]
    changes: defaultdict[int, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    if transfer_ids:
        for change in _COIN_CHANGES.run(connection, {"transfer_ids": transfer_ids}):
            if change.kind not in _TRANSFER_KINDS:
                continue  # a transfer of a later version
            data = {
                "balance": change.balance,
                "change": change.change,
                "kind": _TRANSFER_KINDS[change.kind],
                "transferId": change.transfer_id,
            }
            changes[change.transfer_id].append((change.owner_id, data))
    return changes


def _profiles(connection: Connection, rows: Sequence[OutboxRow]) -> Mapping[int, Profile]:
    """Return the profiles of the users that events are about, by id of the outbox row."""
    event_rows = [row for row in rows if row.subject_id is not None]
    if not event_rows:
        return {}
    values = {
        "event_ids": [row.id for row in event_rows],
        "receiver_ids": [row.account_id for row in event_rows],
        "subject_ids": [row.subject_id for row in event_rows],
    }
    types = {row.id: row.type for row in event_rows}
    return {
        profile.event_id: _stranger(profile)
        if types[profile.event_id] == EventType.FRIEND_REQUEST
        else _friend(profile)
        for profile in _PROFILES.run(connection, values)
        # A friendship that has ended meanwhile gives no event: the phone number is for friends.
        if types[profile.event_id] == EventType.FRIEND_REQUEST or profile.is_friend
    }


def _friend(account: Any) -> Profile:
    return {"userId": account.phone, **_profile(account)}


def _stranger(account: Any) -> Profile:
    return {"publicId": account.public_id, **_profile(account)}


def _profile(account: Any) -> Profile:
    return {
        "nickname": account.nickname,
        "gender": account.gender,
        "headImage": account.head_image,
    }
