"""The channels of the event server: their recent events and their subscriptions."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from livebackend.development.event_server.options import EventServerOptions
from livebackend.events.reset import reset_lines
from livebackend.gateways.events.event_stream import EventId, event_lines
from livebackend.gateways.events.protocol import EngineStatus, PublishedEvent

# Memory of a stored event besides its lines.
_EVENT_OVERHEAD_BYTES = 500
_MAX_NUMBER = 2**31


class TooManyStreams(Exception):
    """The account or the client address has too many connections."""


class ServerFull(Exception):
    """The server has too many connections."""


class _StoredEvent(NamedTuple):
    id: EventId
    channel: str
    lines: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.lines) + _EVENT_OVERHEAD_BYTES


class Subscription:
    """The events for one connection. The first channel is that of the account."""

    def __init__(
        self, channels: Sequence[str], address: str, missed: Iterable[bytes], *, max_queued: int
    ) -> None:
        self.channels = channels
        self.address = address
        # Lines of the events that the client missed between two connections.
        self.missed = missed
        # Set if the client receives more slowly than events are published.
        self.is_too_slow = asyncio.Event()
        # None is the end of the stream.
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(max_queued)

    def add(self, lines: bytes) -> None:
        self._put(lines)

    def end(self) -> None:
        """End the stream after the events that were added."""
        self._put(None)

    async def next_lines(self) -> bytes | None:
        """Wait for the next event, and return its lines; None at the end of the stream."""
        return await self._queue.get()

    def _put(self, lines: bytes | None) -> None:
        try:
            self._queue.put_nowait(lines)
        except asyncio.QueueFull:
            self.is_too_slow.set()


class Channels:
    """Distributes events, and stores the recent ones for clients that connect again."""

    def __init__(
        self, options: EventServerOptions, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._options = options
        self._clock = clock
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._connections_by_address = Counter[str]()
        # All stored events, the oldest first, and the same events by channel.
        self._events: deque[_StoredEvent] = deque()
        self._events_by_channel: dict[str, deque[_StoredEvent]] = {}
        self._stored_bytes = 0
        # The ids of an earlier server are at most this one: its events are no longer stored.
        self._last_dropped_id = self._last_id = EventId(int(clock()), _MAX_NUMBER)

    def publish(self, channel: str, event: PublishedEvent) -> int:
        """Send an event to the subscriptions of a channel; return their number."""
        event_id = self._next_id()
        lines = event_lines(event_id, event.type, event.body)
        self._store(_StoredEvent(event_id, channel, lines))
        subscriptions = self._subscriptions.get(channel, ())
        for subscription in subscriptions:
            subscription.add(lines)
        return len(subscriptions)

    def close(self, channel: str) -> bool:
        """End the streams of a channel; return whether it had any."""
        subscriptions = self._subscriptions.get(channel, ())
        for subscription in subscriptions:
            subscription.end()
        return bool(subscriptions)

    def count(self, channel: str) -> int:
        """Return the number of subscriptions of a channel."""
        return len(self._subscriptions.get(channel, ()))

    def status(self) -> EngineStatus:
        """Return the status; the channels are those with subscriptions or stored events."""
        return EngineStatus(
            subscribers=self._connections_by_address.total(),
            channels=len(self._subscriptions.keys() | self._events_by_channel.keys()),
            stored_events=len(self._events),
            memory_bytes=self._stored_bytes,
            max_memory_bytes=self._options.max_stored_bytes,
        )

    def subscribe(
        self, channels: Sequence[str], *, address: str, after: EventId | None
    ) -> Subscription:
        """Return a subscription that begins after an event.

        Raises TooManyStreams and ServerFull.
        """
        options = self._options
        if self._connections_by_address.total() >= options.max_connections:
            raise ServerFull
        if (
            self._connections_by_address[address] >= options.max_streams_address
            or self.count(channels[0]) >= options.max_streams_account
        ):
            raise TooManyStreams
        subscription = Subscription(
            channels,
            address,
            self._missed_lines(channels, after),
            max_queued=options.max_queued_events,
        )
        for channel in channels:
            self._subscriptions.setdefault(channel, set()).add(subscription)
        self._connections_by_address[address] += 1
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription whose connection has ended."""
        for channel in subscription.channels:
            subscriptions = self._subscriptions[channel]
            subscriptions.discard(subscription)
            if not subscriptions:
                del self._subscriptions[channel]
        self._connections_by_address[subscription.address] -= 1
        if not self._connections_by_address[subscription.address]:
            del self._connections_by_address[subscription.address]

    def _next_id(self) -> EventId:
        """Return an id after all others, also if the clock was set back."""
        time_s = max(int(self._clock()), self._last_id.time_s)
        number = self._last_id.number + 1 if time_s == self._last_id.time_s else 0
        self._last_id = EventId(time_s, number)
        return self._last_id

    def _store(self, event: _StoredEvent) -> None:
        self._events.append(event)
        self._events_by_channel.setdefault(event.channel, deque()).append(event)
        self._stored_bytes += event.size_bytes
        oldest_time_s = event.id.time_s - self._options.replay_s
        while (
            self._stored_bytes > self._options.max_stored_bytes
            or self._events[0].id.time_s < oldest_time_s
        ):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        event = self._events.popleft()
        channel_events = self._events_by_channel[event.channel]
        channel_events.popleft()
        if not channel_events:
            del self._events_by_channel[event.channel]
        self._stored_bytes -= event.size_bytes
        self._last_dropped_id = event.id

    def _missed_lines(self, channels: Sequence[str], after: EventId | None) -> list[bytes]:
        """Return the events after an id; begins with `reset` if some of them can be lost."""
        if after is None:
            return []
        if after < self._last_dropped_id or after.time_s > self._clock() + 1:
            # A client that resumes after this `reset` receives every stored event.
            after = self._last_dropped_id
            return [reset_lines(after), *self._stored_lines(channels, after)]
        return self._stored_lines(channels, after)

    def _stored_lines(self, channels: Sequence[str], after: EventId) -> list[bytes]:
        events = [
            event
            for channel in channels
            for event in self._events_by_channel.get(channel, ())
            if event.id > after
        ]
        return [event.lines for event in sorted(events)]
