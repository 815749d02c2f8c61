"""Channels: numbers of the last events, and the time for which a channel is open."""

from functools import partial

from livebackend.database.engine import Database
from livebackend.events.channels import assign_numbers, open_channel, user_channel
from tests.support.api import PASSWORD, UserClient
from tests.support.database_state import DatabaseState
from tests.support.live_events import account_id, number_events, open_channels


def assign(database: Database, **counts: int) -> dict[str, int]:
    return database.run(partial(assign_numbers, counts=counts))


def open_again(database: Database, name: str) -> int:
    return database.run(partial(open_channel, name=name))


def test_channel_counts_its_events_without_gaps(
    database: Database, database_state: DatabaseState
) -> None:
    assert open_again(database, "a") == 0
    assert open_again(database, "b") == 0
    assert assign(database, a=2, b=1) == {"a": 2, "b": 1}
    assert assign(database, a=1) == {"a": 3}
    assert open_again(database, "a") == 3


def test_channel_that_no_client_opened_gets_no_numbers(
    database: Database, database_state: DatabaseState
) -> None:
    assert assign(database, a=1) == {}
    assert database_state.rows("event_channels") == []


def test_channel_that_was_not_opened_for_an_hour_skips_one_number(
    database: Database, database_state: DatabaseState
) -> None:
    open_again(database, "a")
    assign(database, a=5)
    database_state.execute("UPDATE event_channels SET opened_at = now() - interval '61 minutes'")
    assert assign(database, a=1) == {}
    # A client that has received event 5 detects that it has missed events.
    assert open_again(database, "a") == 6
    assert open_again(database, "a") == 6
    assert assign(database, a=1) == {"a": 7}


def test_channel_that_was_opened_some_minutes_ago_is_not_changed(
    database: Database, database_state: DatabaseState
) -> None:
    open_again(database, "a")
    database_state.execute("UPDATE event_channels SET opened_at = now() - interval '9 minutes'")
    with database_state.assert_unchanged():
        assert open_again(database, "a") == 0
    database_state.execute("UPDATE event_channels SET opened_at = now() - interval '11 minutes'")
    assert open_again(database, "a") == 0
    database_state.execute("UPDATE event_channels SET opened_at = now() - interval '56 minutes'")
    # A concurrent numbering can see the channel as no longer open.
    assert open_again(database, "a") == 1


def test_channel_of_a_removed_account_is_deleted(
    database: Database, database_state: DatabaseState, ann: UserClient, ben: UserClient
) -> None:
    open_channels(database, ann, ben)
    assert ann.post("/register", remove="1", password=PASSWORD).result == "0000"
    ben.post("/log", logout="1")
    number_events(database)
    (channel,) = database_state.rows("event_channels")
    assert channel["name"] == user_channel(account_id(database, ben))
