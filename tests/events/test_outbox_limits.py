"""The limits of the outbox, above which events are dropped."""

from collections import Counter
from datetime import timedelta
from functools import partial

import pytest

from livebackend.database.engine import Database
from livebackend.events.channels import open_channel
from livebackend.events.numbering import BATCH_SIZE, next_batch
from livebackend.events.outbox_limits import OutboxLimits, drop_excess, drop_expired_batch
from tests.support.database_state import DatabaseState
from tests.support.live_events import HOUR, append_warnings, number_events

ACCOUNT = 7
CHANNEL = "user.7"
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def channel(database: Database, database_state: DatabaseState) -> None:
    """Open a channel; the events of the tests need no account."""
    database.run(partial(open_channel, name=CHANNEL))


def append_many(database_state: DatabaseState, count: int, event_type: str, age: str = "0") -> None:
    database_state.execute(
        "INSERT INTO outbox_events (type, account_id, detail, created_at)"
        f" SELECT '{event_type}', {ACCOUNT}, n, now() - interval '{age} s'"
        f" FROM generate_series(1, {count}) AS n"
    )


def drop(database: Database, max_rows: int, max_age: timedelta = HOUR) -> Counter[str]:
    """Drop events until the outbox has no excess; return the dropped rows by type."""
    dropped_rows = Counter[str]()
    while batch := database.run(partial(drop_excess, limits=OutboxLimits(max_rows, max_age))):
        dropped_rows += batch
    return dropped_rows


def test_outbox_within_its_limits_loses_no_event(
    database: Database, database_state: DatabaseState
) -> None:
    append_many(database_state, 10, "account_warned")
    assert drop(database, max_rows=10) == {}


def test_unimportant_events_are_dropped_first(
    database: Database, database_state: DatabaseState
) -> None:
    append_many(database_state, 5, "account_warned")
    append_many(database_state, 3, "friend_left")
    append_many(database_state, 2, "friend_live")
    assert drop(database, max_rows=7) == {"friend_left": 3}
    assert drop(database, max_rows=4) == {"friend_live": 2, "account_warned": 1}
    remaining_texts = [row["detail"] for row in database_state.rows("outbox_events")]
    assert remaining_texts == ["2", "3", "4", "5"]


def test_any_number_of_rows_is_dropped_in_bounded_transactions(
    database: Database, database_state: DatabaseState
) -> None:
    append_many(database_state, 3 * BATCH_SIZE, "account_warned")
    work = partial(drop_excess, limits=OutboxLimits(10, HOUR))
    assert database.run(work).total() == BATCH_SIZE
    drop(database, max_rows=10)
    assert len(database_state.rows("outbox_events")) == 10


def test_too_old_events_are_dropped(database: Database, database_state: DatabaseState) -> None:
    append_many(database_state, 2, "account_warned", age="61")
    append_many(database_state, 3, "account_warned", age="1")
    assert drop(database, 100, MINUTE) == {"account_warned": 2}


def test_event_that_closes_its_channel_is_dropped_only_after_15_minutes(
    database: Database, database_state: DatabaseState
) -> None:
    append_many(database_state, 1, "account_disabled", age="901")
    append_many(database_state, 4, "account_disabled", age="800")
    # By then, each connection has ended, and its client was checked again.
    assert drop(database, max_rows=1, max_age=MINUTE) == {"account_disabled": 1}
    assert len(database_state.rows("outbox_events")) == 4


def test_clients_detect_a_dropped_event_by_the_gap(database: Database) -> None:
    append_warnings(database, ACCOUNT, "a", "b", "c")
    drop(database, max_rows=1)
    (event,) = number_events(database)
    assert (event["seq"], event["data"]["text"]) == (3, "c")


def test_too_old_batch_is_dropped(database: Database, database_state: DatabaseState) -> None:
    append_warnings(database, ACCOUNT, "a", "b")
    database.run(partial(next_batch, published_id=0))
    work = partial(drop_expired_batch, limits=OutboxLimits(10, HOUR))
    assert database.run(work) == {}
    database_state.execute("UPDATE event_batches SET created_at = now() - interval '61 minutes'")
    assert database.run(work) == {"account_warned": 2}
    assert database_state.rows("event_batches") == []
