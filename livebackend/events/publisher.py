"""Publishing: calls of the event engine with numbered events."""

import logging
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from livebackend.events.declarations import closes_channel
from livebackend.gateways.events.protocol import ChannelEvent, EventEngine, InvalidEvent

log = logging.getLogger(__name__)

# The maximum number of events in one call.
_CALL_SIZE = 100
# A connection that the application accepted just before its login token was revoked can reach the
# engine after the channel is closed. The check of a connection takes up to 5 s.
_CLOSE_AGAIN_AFTER_S = 6.0
_MAX_CLOSED_CHANNELS = 10_000
_MAX_CLOSED_AGAIN = 50


class PublisherMetrics(Protocol):
    """Receives the metrics of a publisher."""

    def count_published(self, events: Mapping[str, int]) -> None:
        """Count published events by type."""


class Publisher:
    """Publishes events in order, and closes the channels of users whose tokens are revoked."""

    def __init__(self, engine: EventEngine, metrics: PublisherMetrics) -> None:
        # A wrapper that counts calls costs less if its method is looked up once.
        self._publish = engine.publish
        self._close_channel = engine.close_channel
        self._metrics = metrics
        # The channels to close again, with values of time.monotonic().
        self._closed_channels = deque[tuple[float, str]](maxlen=_MAX_CLOSED_CHANNELS)

    def publish_some(self, events: Sequence[ChannelEvent]) -> list[ChannelEvent]:
        """Publish the first events; return those that must be published next.

        Raises EventsFailed if none is published.
        """
        chunk = _until_channel_closes(events)
        try:
            unconfirmed = self._publish(chunk)
        except InvalidEvent as error:
            # A retry would fail too, and block all later events. Clients detect the gap.
            log.error("events: an event of %s is not published: %s", chunk[0].channel, error)
            chunk, unconfirmed = chunk[:1], ()
        else:
            self._metrics.count_published(_types(chunk) - _types(unconfirmed))
        if closes_channel(chunk[-1].event.type) and chunk[-1] not in unconfirmed:
            self._close_now_and_later(chunk[-1].channel)
        return [*unconfirmed, *events[len(chunk) :]]

    def close_again(self) -> None:
        """Close channels again that were closed some seconds ago. Raises EventsFailed."""
        for _ in range(_MAX_CLOSED_AGAIN):
            if not self._closed_channels or self._closed_channels[0][0] > time.monotonic():
                return
            self._close_channel(self._closed_channels[0][1])
            self._closed_channels.popleft()

    def _close_now_and_later(self, channel: str) -> None:
        self._close_channel(channel)
        self._closed_channels.append((time.monotonic() + _CLOSE_AGAIN_AFTER_S, channel))


def _until_channel_closes(events: Sequence[ChannelEvent]) -> Sequence[ChannelEvent]:
    """Return the events of one call: the first ones, up to one that closes its channel."""
    for number, event in enumerate(events[:_CALL_SIZE], start=1):
        if closes_channel(event.event.type):
            return events[:number]
    return events[:_CALL_SIZE]


def _types(events: Sequence[ChannelEvent]) -> Counter[str]:
    return Counter(event.event.type for event in events)
