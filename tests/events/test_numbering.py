"""Numbering: order, batches, and crashes between the steps."""

from collections import Counter
from functools import partial
from typing import Any

import orjson
import pytest

from livebackend.database.engine import Database
from livebackend.events.channels import open_channel
from livebackend.events.numbering import (
    BATCH_SIZE,
    Batch,
    has_no_events,
    next_batch,
)
from livebackend.gateways.events.protocol import MAX_EVENT_BYTES
from tests.support.api import UserClient
from tests.support.database_state import DatabaseState
from tests.support.live_events import (
    account_id,
    append_warning,
    append_warnings,
    number_events,
    open_channels,
)

ACCOUNT = 7
CHANNEL = "user.7"


@pytest.fixture
def channel(database: Database, database_state: DatabaseState) -> str:
    """An open channel; the events of the tests need no account."""
    database.run(partial(open_channel, name=CHANNEL))
    return CHANNEL


def append_many(database_state: DatabaseState, count: int, event_type: str, age: str = "0") -> None:
    database_state.execute(
        "INSERT INTO outbox_events (type, account_id, detail, created_at)"
        f" SELECT '{event_type}', {ACCOUNT}, n, now() - interval '{age} s'"
        f" FROM generate_series(1, {count}) AS n"
    )


def number(database: Database, *, published_id: int = 0) -> Batch:
    return database.run(partial(next_batch, published_id=published_id))


def number_several(database: Database, count: int) -> list[Batch]:
    """Number batches; each is published before the next one."""
    batches = [number(database)]
    while len(batches) < count:
        batches.append(number(database, published_id=batches[-1].id))
    return batches


def contents(batch: Batch) -> list[dict[str, Any]]:
    return [orjson.loads(numbered.event.body) for numbered in batch.events]


def test_events_are_numbered_in_the_order_of_their_transactions(
    database: Database, channel: str
) -> None:
    append_warnings(database, ACCOUNT, "a", "b", "c")
    events = number_events(database)
    assert [(event["seq"], event["data"]["text"]) for event in events] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
    ]


def test_event_that_is_committed_late_gets_the_next_number(
    database: Database, channel: str
) -> None:
    with database.engine.begin() as connection:
        append_warning(connection, ACCOUNT, "committed late")
        append_warnings(database, ACCOUNT, "committed first")
        first_events = number_events(database)
    second_events = number_events(database)
    assert [(event["seq"], event["data"]["text"]) for event in first_events + second_events] == [
        (1, "committed first"),
        (2, "committed late"),
    ]


def test_event_of_a_transaction_that_is_rolled_back_is_not_numbered(
    database: Database, channel: str
) -> None:
    with database.engine.connect() as connection:
        append_warning(connection, ACCOUNT, "rolled back")
        connection.rollback()
    assert number_events(database) == []


def test_batch_keeps_its_numbers_and_content_until_the_next_one(
    database: Database, channel: str
) -> None:
    append_warnings(database, ACCOUNT, "line separator \u2028 and \x85", "b")
    batch = number(database)
    assert number(database) == Batch(batch.id, batch.events)
    assert number(database, published_id=batch.id) == Batch(0, [], is_last=True)
    assert database.run(has_no_events)


def test_batch_of_another_process_comes_before_new_events(database: Database, channel: str) -> None:
    append_warnings(database, ACCOUNT, "a")
    first = number(database)
    # Another process has published the batch, numbered the next event, and has ended.
    append_warnings(database, ACCOUNT, "b")
    second = number(database, published_id=first.id)
    append_warnings(database, ACCOUNT, "c")
    assert number(database, published_id=first.id) == Batch(second.id, second.events)
    third = number(database, published_id=second.id)
    assert [numbered_event["seq"] for numbered_event in contents(third)] == [3]


def test_event_that_closes_its_channel_comes_before_older_events(
    database: Database, database_state: DatabaseState, channel: str
) -> None:
    append_many(database_state, 3 * BATCH_SIZE, "account_warned")
    append_many(database_state, 1, "login_revoked")
    events = contents(number(database))
    assert [event["type"] for event in events[:2]] == ["login_revoked", "account_warned"]
    assert [event["seq"] for event in events[:2]] == [1, 2]


def test_large_batch_is_read_completely(
    database: Database, database_state: DatabaseState, channel: str
) -> None:
    append_many(database_state, BATCH_SIZE, "account_warned")
    database_state.execute("UPDATE outbox_events SET detail = repeat('界', 200)")
    batch = number(database)
    assert sum(len(numbered.event.body) for numbered in batch.events) > 100_000
    assert number(database).events == batch.events


def test_numbering_that_is_rolled_back_takes_no_number(
    database: Database, database_state: DatabaseState, channel: str
) -> None:
    append_warnings(database, ACCOUNT, "a")
    with database.engine.connect() as connection:
        assert next_batch(connection, published_id=0).events
        connection.rollback()
    (event,) = number_events(database)
    assert event["seq"] == 1


def test_batch_has_a_maximum_size(
    database: Database, database_state: DatabaseState, channel: str
) -> None:
    append_many(database_state, 2 * BATCH_SIZE + 1, "account_warned")
    batches = number_several(database, 4)
    assert [len(batch.events) for batch in batches] == [BATCH_SIZE, BATCH_SIZE, 1, 0]
    assert [batch.is_last for batch in batches] == [False, False, True, True]


def test_batch_has_the_transfers_of_several_rows_up_to_a_maximum(
    database: Database, database_state: DatabaseState, channel: str
) -> None:
    for count in (BATCH_SIZE // 2, BATCH_SIZE // 2, 1, 2 * BATCH_SIZE, 1):
        database_state.execute(
            "INSERT INTO outbox_events (type, transfer_ids)"
            f" SELECT 'coins_changed', array_agg(n) FROM generate_series(1, {count}) AS n"
        )
    remaining_counts = []
    for _ in range(4):
        number(database)
        remaining_counts.append(len(database_state.rows("outbox_events")))
    assert remaining_counts == [3, 2, 1, 0]


def test_event_to_friends_is_numbered_for_a_limited_number_of_friends_at_a_time(
    database: Database, database_state: DatabaseState, ann: UserClient, ben: UserClient
) -> None:
    host_id = account_id(database, ann)
    open_channels(database, ben)
    database_state.execute(
        f"""
        WITH friend AS (
            INSERT INTO accounts (phone, password_hash)
            SELECT (13900000000 + n)::text, 'x' FROM generate_series(1, {BATCH_SIZE + 7}) AS n
            RETURNING id
        ), channel AS (
            INSERT INTO event_channels (name) SELECT 'user.' || id FROM friend
        )
        INSERT INTO friendships (account_id, friend_id)
        SELECT {host_id}, id FROM friend UNION ALL SELECT id, {host_id} FROM friend
        """
    )
    ann.go_live()
    ann.post("/room", leave="1")
    database_state.execute("DELETE FROM outbox_events WHERE type = 'friend_live'")
    ann.send_friend_request(ben)
    batches = number_several(database, 3)
    assert [types(batch) for batch in batches] == [
        {"friend_left": BATCH_SIZE},
        {"friend_left": 7},
        # The event after the event to friends waits until all friends have received that one.
        {"friend_request": 1},
    ]
    channels = [numbered.channel for batch in batches[:2] for numbered in batch.events]
    assert len(set(channels)) == BATCH_SIZE + 7


def types(batch: Batch) -> Counter[str]:
    return Counter(numbered.event.type for numbered in batch.events)


def test_event_of_an_unknown_type_is_removed(
    database: Database, database_state: DatabaseState, channel: str
) -> None:
    database_state.execute("INSERT INTO outbox_events (type, subject_id) VALUES ('later', 3)")
    append_warnings(database, ACCOUNT, "a")
    assert [event["seq"] for event in number_events(database)] == [1]
    assert database_state.rows("outbox_events") == []


def test_longest_event_is_published_without_its_long_fields(
    database: Database, database_state: DatabaseState, ann: UserClient, ben: UserClient
) -> None:
    ann.befriend(ben)
    number_events(database)
    open_channels(database, ben)
    ann.go_live(title="界" * 100)
    database_state.execute(
        "UPDATE accounts SET nickname = repeat('界', 32), head_image = repeat('界', 255)"
    )
    database_state.execute(
        "UPDATE rooms SET play_urls = jsonb_build_object("
        "'rtmp', repeat('x', 400), 'hls', repeat('x', 400), 'hdl', repeat('x', 400))"
    )
    batch = number(database)
    ((_, event),) = batch.events
    assert len(event.body) <= MAX_EVENT_BYTES
    data = orjson.loads(event.body)["data"]
    assert (data["playUrl"], data["user"]["headImage"]) == (None, None)
    assert (data["title"], data["user"]["nickname"]) == ("界" * 100, "界" * 32)
