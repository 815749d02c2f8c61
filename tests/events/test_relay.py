"""The relay: publication in order, failures of the engine, and the lease."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

import livebackend
from livebackend.container import Services
from livebackend.database.engine import Database
from livebackend.database.leases import Lease
from livebackend.events.channels import open_channel
from livebackend.events.numbering import next_batch
from livebackend.events.outbox_limits import OutboxLimits
from livebackend.gateways.events.protocol import ChannelEvent, EventsFailed, InvalidEvent
from tests.support.api import App, UserClient
from tests.support.application import app_settings
from tests.support.commands import Operator
from tests.support.database_state import DatabaseState
from tests.support.live_events import (
    HOUR,
    append_warnings,
    open_channels,
    running_relay,
)
from tests.support.recording_events import RecordingEvents
from tests.support.waiting import wait_until

ACCOUNT = 7
CHANNEL = "user.7"
WAIT_S = 20


@pytest.fixture
def engine() -> RecordingEvents:
    return RecordingEvents()


@pytest.fixture(autouse=True)
def channel(database: Database, database_state: DatabaseState) -> None:
    database.run(partial(open_channel, name=CHANNEL))


def wait_for_events(engine: RecordingEvents, count: int) -> list[dict[str, Any]]:
    """Wait until the engine has at least `count` events; return all."""
    wait_until(lambda: len(engine.published) >= count, WAIT_S, f"{count} events")
    return list(engine.published)


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [event["data"]["text"] for event in events]


def test_relay_publishes_events_in_order_and_deletes_them(
    services: Services,
    database: Database,
    database_state: DatabaseState,
    engine: RecordingEvents,
) -> None:
    append_warnings(database, ACCOUNT, "a", "b")
    with running_relay(services, engine):
        wait_for_events(engine, 2)
        append_warnings(database, ACCOUNT, "c")
        events = wait_for_events(engine, 3)
        wait_until(lambda: not database_state.rows("event_batches"), WAIT_S, "deleted batches")
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert texts(events) == ["a", "b", "c"]
    assert database_state.rows("outbox_events") == []


def test_event_is_published_soon_after_the_commit(
    services: Services, database: Database, engine: RecordingEvents
) -> None:
    with running_relay(services, engine):
        append_warnings(database, ACCOUNT, "first")
        wait_for_events(engine, 1)
        start = time.monotonic()
        append_warnings(database, ACCOUNT, "second")
        wait_for_events(engine, 2)
    # Usually 0.05 s.
    assert time.monotonic() - start < 1


def test_batch_that_a_killed_relay_left_is_published_first_with_its_numbers(
    services: Services, database: Database, engine: RecordingEvents
) -> None:
    append_warnings(database, ACCOUNT, "a", "b")
    database.run(partial(next_batch, published_id=0))
    append_warnings(database, ACCOUNT, "c")
    with running_relay(services, engine):
        events = wait_for_events(engine, 3)
    assert [(event["seq"], event["data"]["text"]) for event in events] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
    ]


def test_events_wait_in_order_while_the_engine_is_unavailable(
    services: Services,
    database: Database,
    engine: RecordingEvents,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine.fails = True
    with running_relay(services, engine):
        append_warnings(database, ACCOUNT, "a", "b")
        wait_until(lambda: "does not accept events" in caplog.text, WAIT_S, "the failure")
        append_warnings(database, ACCOUNT, "c", "d")
        assert not engine.published
        engine.fails = False
        events = wait_for_events(engine, 4)
    assert texts(events) == ["a", "b", "c", "d"]
    assert caplog.text.count("does not accept events") == 1


def test_relay_drops_events_while_the_engine_is_unavailable_and_the_outbox_is_full(
    services: Services,
    database: Database,
    database_state: DatabaseState,
    engine: RecordingEvents,
) -> None:
    engine.fails = True
    limits = OutboxLimits(max_rows=2, max_age=HOUR)
    with running_relay(services, engine, limits=limits):
        append_warnings(database, ACCOUNT, "numbered")
        wait_until(lambda: database_state.rows("event_batches"), WAIT_S, "the first batch")
        append_warnings(database, ACCOUNT, "dropped", "dropped too", "c", "d")
        wait_until(lambda: len(database_state.rows("outbox_events")) == 2, WAIT_S, "dropped events")
        engine.fails = False
        events = wait_for_events(engine, 3)
    assert [(event["seq"], event["data"]["text"]) for event in events] == [
        (1, "numbered"),
        (4, "c"),
        (5, "d"),
    ]
    dropped_count = services.metrics.registry.get_sample_value(
        "livebackend_events_dropped_total", {"type": "account_warned"}
    )
    assert dropped_count == 2


def test_event_that_the_engine_never_accepts_does_not_stop_the_events_after_it(
    services: Services, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class RefusingEvents(RecordingEvents):
        def publish(self, events: Sequence[ChannelEvent]) -> Sequence[ChannelEvent]:
            if b"refused" in events[0].event.body:
                raise InvalidEvent("the event is not acceptable")
            acceptable = list(takewhile(lambda event: b"refused" not in event.event.body, events))
            super().publish(acceptable)
            return events[len(acceptable) :]

    engine = RefusingEvents()
    append_warnings(database, ACCOUNT, "a", "refused", "b")
    with running_relay(services, engine):
        events = wait_for_events(engine, 2)
    assert [event["seq"] for event in events] == [1, 3]
    assert "an event of user.7 is not published: the event is not acceptable" in caplog.text


def test_channel_is_closed_although_the_engine_never_accepts_its_last_event(
    services: Services, database: Database, database_state: DatabaseState
) -> None:
    class RefusingEvents(RecordingEvents):
        def publish(self, events: Sequence[ChannelEvent]) -> Sequence[ChannelEvent]:
            raise InvalidEvent("the event is not acceptable")

    engine = RefusingEvents()
    database_state.execute(
        f"INSERT INTO outbox_events (type, account_id) VALUES ('login_revoked', {ACCOUNT})"
    )
    with running_relay(services, engine):
        wait_until(lambda: engine.closed_channels, WAIT_S, "the closed channel")
    assert engine.closed_channels == [CHANNEL]


def test_event_that_is_not_confirmed_does_not_stop_other_channels(
    services: Services, database: Database
) -> None:
    class FullEvents(RecordingEvents):
        """Engine that confirms no event of a channel."""

        def publish(self, events: Sequence[ChannelEvent]) -> Sequence[ChannelEvent]:
            rest = [event for event in events if event.channel == "user.8"]
            if len(rest) == len(events):
                raise EventsFailed("no memory")
            super().publish([event for event in events if event.channel != "user.8"])
            return rest

    engine = FullEvents()
    database.run(partial(open_channel, name="user.8"))
    append_warnings(database, ACCOUNT, "a")
    append_warnings(database, 8, "b")
    append_warnings(database, ACCOUNT, "c")
    with running_relay(services, engine):
        events = wait_for_events(engine, 2)
        time.sleep(1.5)
        assert len(engine.published) == 2
    assert texts(events) == ["a", "c"]


def test_relay_whose_engine_is_unavailable_lets_another_one_publish(
    services: Services, database: Database
) -> None:
    first, second = RecordingEvents(), RecordingEvents()
    first.fails = True
    with (
        running_relay(services, first, holder="first"),
        running_relay(services, second, holder="second"),
    ):
        append_warnings(database, ACCOUNT, "a")
        events = wait_for_events(second, 1)
    assert texts(events) == ["a"]


def test_batch_that_the_engine_did_not_accept_in_time_is_dropped(
    services: Services,
    database: Database,
    database_state: DatabaseState,
    engine: RecordingEvents,
) -> None:
    append_warnings(database, ACCOUNT, "old")
    database.run(partial(next_batch, published_id=0))
    database_state.execute("UPDATE event_batches SET created_at = now() - interval '2 hours'")
    append_warnings(database, ACCOUNT, "new")
    with running_relay(services, engine):
        (event,) = wait_for_events(engine, 1)
    assert (event["seq"], event["data"]["text"]) == (2, "new")


def test_only_the_holder_of_the_lease_publishes(
    services: Services, database: Database, database_state: DatabaseState
) -> None:
    first, second = RecordingEvents(), RecordingEvents()
    with running_relay(services, first, holder="first"):
        append_warnings(database, ACCOUNT, "a")
        wait_for_events(first, 1)
        with running_relay(services, second, holder="second"):
            append_warnings(database, ACCOUNT, "b")
            wait_for_events(first, 2)
            time.sleep(1.5)
            assert not second.published
    assert database_state.rows("process_leases") == []


def test_another_relay_continues_after_the_first_has_stopped(
    services: Services, database: Database
) -> None:
    first, second = RecordingEvents(), RecordingEvents()
    with ExitStack() as second_relay:
        with running_relay(services, first, holder="first"):
            append_warnings(database, ACCOUNT, "a")
            wait_for_events(first, 1)
            second_relay.enter_context(running_relay(services, second, holder="second"))
        append_warnings(database, ACCOUNT, "b")
        wait_until(lambda: "b" in texts(list(second.published)), WAIT_S, "the second event")
    # The first event can be repeated.
    event = second.published[-1]
    assert (event["seq"], event["data"]["text"]) == (2, "b")


def test_relay_that_lost_its_lease_publishes_nothing(
    services: Services, database: Database, database_state: DatabaseState, engine: RecordingEvents
) -> None:
    with running_relay(services, engine):
        append_warnings(database, ACCOUNT, "a")
        wait_for_events(engine, 1)
        database_state.execute("UPDATE process_leases SET holder = 'other'")
        database.run(Lease("events", "other", 60).acquire)
        append_warnings(database, ACCOUNT, "b")
        time.sleep(1.5)
        assert texts(list(engine.published)) == ["a"]


def test_relay_continues_after_its_connection_is_lost(
    services: Services,
    database: Database,
    database_state: DatabaseState,
    engine: RecordingEvents,
) -> None:
    with running_relay(services, engine):
        append_warnings(database, ACCOUNT, "a")
        wait_for_events(engine, 1)
        database_state.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            " AND query LIKE '%outbox_events%' AND query NOT LIKE '%pg_terminate_backend%'"
        )
        append_warnings(database, ACCOUNT, "b")
        events = wait_for_events(engine, 2)
    assert [event["seq"] for event in events] == [1, 2]


def test_channel_of_a_disabled_account_is_closed_after_its_last_event(
    services: Services,
    database: Database,
    engine: RecordingEvents,
    operator: Operator,
    ann: UserClient,
) -> None:
    (name,) = open_channels(database, ann)
    with running_relay(services, engine):
        operator.run("user disable", ann.phone)
        # A connection that was accepted before can reach the engine after the first time.
        wait_until(lambda: len(engine.closed_channels) == 2, WAIT_S, "the closed channel")
    assert engine.closed_channels == [name, name]
    assert [event["type"] for event in engine.published] == ["account_disabled"]


def test_relay_counts_published_events_and_its_leadership(
    services: Services, database: Database, engine: RecordingEvents
) -> None:
    def value(name: str, **labels: str) -> float | None:
        return services.metrics.registry.get_sample_value(f"livebackend_events_{name}", labels)

    published_before = value("published_total", type="account_warned") or 0
    with running_relay(services, engine):
        append_warnings(database, ACCOUNT, "a", "b")
        wait_for_events(engine, 2)
        assert value("relay_leader") == 1
    assert value("relay_leader") == 0
    assert value("published_total", type="account_warned") == published_before + 2


def test_relay_of_an_application_publishes_the_events_of_its_requests(
    database_url: str,
    data_dir: Path,
    ann: UserClient,
    ben: UserClient,
    database: Database,
) -> None:
    settings = app_settings(database_url, data_dir)
    app: App = livebackend.main({}, **settings)
    services: Services = app.registry.services
    engine = services.gateways.events
    assert isinstance(engine, RecordingEvents)
    try:
        open_channels(database, ben)
        ann.with_app(app).send_friend_request(ben)
        (event,) = wait_for_events(engine, 1)
    finally:
        services.close()
    assert event["type"] == "friend_request"
