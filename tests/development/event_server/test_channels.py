"""Channels of the event server: stored events, and limits."""

import asyncio

import pytest

from livebackend.development.event_server.channels import (
    Channels,
    ServerFull,
    TooManyStreams,
)
from livebackend.development.event_server.options import EventServerOptions
from livebackend.gateways.events.event_stream import EventId
from livebackend.gateways.events.protocol import PublishedEvent
from tests.support.clock import FakeClock

NOW = 1_000_000
OPTIONS = EventServerOptions(
    address="127.0.0.1:1",
    secret="secret",
    app_url="http://127.0.0.1:2",
    replay_s=120,
    max_streams_account=5,
    max_streams_address=20,
    max_connections=30,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def channels(clock: FakeClock) -> Channels:
    channels = Channels(OPTIONS, clock=clock)
    clock.now += 10
    return channels


def event(number: int, size_bytes: int = 0) -> PublishedEvent:
    return PublishedEvent("test", str(number).encode().ljust(size_bytes))


def missed(channels: Channels, after: EventId | None, *names: str) -> list[str]:
    """Return the bodies of the events that a client with this id has missed, or their types."""
    subscription = channels.subscribe(names or ["user.1"], address="a", after=after)
    channels.unsubscribe(subscription)
    return [_summary(lines) for lines in subscription.missed]


def _summary(lines: bytes) -> str:
    fields = dict(line.split(": ", 1) for line in lines.decode().strip().split("\n"))
    return fields["data"].strip() if fields["event"] == "test" else fields["event"]


def test_client_receives_the_events_after_its_id_in_order(
    channels: Channels, clock: FakeClock
) -> None:
    for number in range(6):
        channels.publish(f"user.{number % 2}", event(number))
        clock.now += 0.5
    position = EventId(NOW + 11, 0)
    assert missed(channels, position, "user.1") == ["3", "5"]
    assert missed(channels, position, "user.0", "user.1") == ["3", "4", "5"]
    assert missed(channels, None, "user.0", "user.1") == []


def test_ids_increase_also_if_the_clock_is_set_back(channels: Channels, clock: FakeClock) -> None:
    channels.publish("user.1", event(1))
    clock.now -= 5
    channels.publish("user.1", event(2))
    clock.now += 5
    assert missed(channels, EventId(NOW + 10, 0)) == ["2"]


def test_id_of_an_earlier_server_causes_a_reset(channels: Channels, clock: FakeClock) -> None:
    assert missed(channels, EventId(NOW, 50)) == ["reset"]
    assert missed(channels, EventId(NOW - 200, 0)) == ["reset"]
    assert missed(channels, EventId(NOW + 1, 0)) == []


def test_client_with_the_reset_of_a_new_server_receives_the_first_event(clock: FakeClock) -> None:
    channels = Channels(OPTIONS, clock=clock)
    subscription = channels.subscribe(["user.1"], address="a", after=EventId(NOW - 5, 0))
    (reset,) = subscription.missed
    id_line = reset.decode().splitlines()[1]
    clock.now += 1
    channels.publish("user.1", event(1))
    assert missed(channels, EventId.parse(id_line.removeprefix("id: "))) == ["1"]


def test_id_from_the_future_causes_a_reset(channels: Channels) -> None:
    assert missed(channels, EventId(NOW + 20, 0)) == ["reset"]


def test_stored_events_follow_a_reset_and_its_id(channels: Channels) -> None:
    """A warning is in no list, so a client that reads its lists again needs the event too."""
    channels.publish("user.1", event(1))
    channels.publish("user.2", event(2))
    assert missed(channels, EventId(NOW - 200, 0)) == ["reset", "1"]
    subscription = channels.subscribe(["user.1"], address="a", after=EventId(NOW - 200, 0))
    [reset, _] = subscription.missed
    reset_id = EventId.parse(reset.decode().partition("id: ")[2].partition("\n")[0])
    assert missed(channels, reset_id) == ["1"]


def test_events_are_dropped_after_replay_s(channels: Channels, clock: FakeClock) -> None:
    channels.publish("user.1", event(1))
    clock.now += 119
    channels.publish("user.2", event(2))
    assert missed(channels, EventId(NOW + 9, 0)) == ["1"]
    clock.now += 2
    channels.publish("user.2", event(3))
    assert missed(channels, EventId(NOW + 9, 0)) == ["reset"]
    assert missed(channels, EventId(NOW + 10, 0)) == []


def test_memory_of_stored_events_is_limited(clock: FakeClock) -> None:
    options = OPTIONS._replace(max_stored_bytes=100_000)
    channels = Channels(options, clock=clock)
    clock.now += 10
    for number in range(1000):
        channels.publish(f"user.{number}", event(number, 500))
    # An event needs over 1000 bytes, so fewer than 100 events are stored.
    names = [f"user.{number}" for number in range(1000)]
    assert missed(channels, EventId(NOW + 10, 949), *names) == [str(n) for n in range(950, 1000)]
    assert missed(channels, EventId(NOW + 10, 899), "user.999") == ["reset", "999"]


def test_subscription_that_is_not_read_becomes_too_slow(channels: Channels) -> None:
    subscription = channels.subscribe(["user.1"], address="a", after=None)
    for number in range(OPTIONS.max_queued_events):
        channels.publish("user.1", event(number))
    assert not subscription.is_too_slow.is_set()
    channels.publish("user.1", event(0))
    assert subscription.is_too_slow.is_set()


def test_closed_channel_ends_after_its_events(channels: Channels) -> None:
    async def read() -> list[bytes | None]:
        return [await subscription.next_lines() for _ in range(2)]

    subscription = channels.subscribe(["user.1"], address="a", after=None)
    channels.publish("user.1", event(1))
    assert channels.close("user.1")
    lines, end = asyncio.run(read())
    assert lines
    assert end is None
    assert not channels.close("user.2")


def test_connections_of_an_account_are_limited(channels: Channels) -> None:
    subscriptions = [
        channels.subscribe(["user.1", "room.1"], address=str(number), after=None)
        for number in range(5)
    ]
    with pytest.raises(TooManyStreams):
        channels.subscribe(["user.1"], address="x", after=None)
    channels.subscribe(["user.2", "room.1"], address="x", after=None)
    channels.unsubscribe(subscriptions[0])
    channels.subscribe(["user.1"], address="x", after=None)
    assert (channels.count("user.1"), channels.count("room.1")) == (5, 5)


def test_connections_of_an_address_are_limited(channels: Channels) -> None:
    for number in range(20):
        channels.subscribe([f"user.{number}"], address="a", after=None)
    with pytest.raises(TooManyStreams):
        channels.subscribe(["user.20"], address="a", after=None)
    channels.subscribe(["user.20"], address="b", after=None)


def test_connections_of_the_server_are_limited(channels: Channels) -> None:
    for number in range(30):
        channels.subscribe([f"user.{number}"], address=str(number), after=None)
    with pytest.raises(ServerFull):
        channels.subscribe(["user.30"], address="30", after=None)


def test_status_counts_connections_channels_and_stored_events(channels: Channels) -> None:
    channels.publish("user.1", event(1, 1000))
    first = channels.subscribe(["user.1", "room.1"], address="a", after=None)
    channels.subscribe(["user.2", "room.1"], address="b", after=None)
    status = channels.status()
    assert (status.subscribers, status.channels, status.stored_events) == (2, 3, 1)
    assert 1000 < status.memory_bytes < 2000
    assert status.max_memory_bytes == 16 * 2**20
    channels.unsubscribe(first)
    assert channels.status()[:3] == (1, 3, 1)
