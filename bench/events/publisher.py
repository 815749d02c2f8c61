"""Publishes events to an engine directly, without an outbox."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from livebackend.gateways.events.protocol import ChannelEvent, EventEngine, PublishedEvent

_TYPE = "account_warned"


class Publisher:
    """Publishes numbered events to channels, and records the time before each call."""

    def __init__(self, engine: EventEngine, channels: Sequence[str], *, text_bytes: int) -> None:
        self._engine = engine
        self._channels = channels
        self._text = "x" * text_bytes
        self._stopped = threading.Event()
        self._numbers = Counter[str]()
        # The time of each event in nanoseconds, by channel and number.
        self.times_ns: dict[tuple[str, int], int] = {}

    def publish(self, *, rate: float, seconds: float) -> None:
        """Publish to each channel `rate` times per second, for `seconds` or until `stop`."""
        started_at = time.monotonic()
        rounds = 0
        while time.monotonic() < started_at + seconds and not self._stopped.is_set():
            self.publish_now(1)
            rounds += 1
            time.sleep(max(0, started_at + rounds / rate - time.monotonic()))

    def publish_now(self, count: int) -> None:
        """Publish `count` events to each channel in one call."""
        events: Sequence[ChannelEvent] = [
            self._next_event(channel) for _ in range(count) for channel in self._channels
        ]
        while events:
            events = self._engine.publish(events)

    def time_ns(self, event: Any) -> int:
        """Return the time of a received event."""
        return self.times_ns[event["channel"], event["seq"]]

    def stop(self) -> None:
        self._stopped.set()

    def _next_event(self, channel: str) -> ChannelEvent:
        self._numbers[channel] += 1
        number = self._numbers[channel]
        event = {
            "v": 1,
            "type": _TYPE,
            "channel": channel,
            "seq": number,
            "time": "2026-01-01T00:00:00.000000Z",
            "data": {"text": self._text},
        }
        self.times_ns[channel, number] = time.monotonic_ns()
        return ChannelEvent(channel, PublishedEvent(_TYPE, orjson.dumps(event)))


@contextmanager
def publishing(publisher: Publisher, *, rate: float, seconds: float) -> Iterator[None]:
    """Publish in a thread during the `with` block, which waits for its end."""
    thread = threading.Thread(
        target=publisher.publish, kwargs={"rate": rate, "seconds": seconds}, daemon=True
    )
    thread.start()
    yield
    thread.join(seconds + 30)
