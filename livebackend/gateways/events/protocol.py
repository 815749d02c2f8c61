"""The protocol of event engines, and the errors that they raise."""

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from livebackend.core.supervised_thread import SupervisedThread

MAX_EVENT_BYTES = 2048
# The longest time that a call of an engine takes.
CALL_TIMEOUT_S = 2.0

_CHANNEL = re.compile("[a-z]{1,20}[.][0-9]{1,19}")
_TYPE = re.compile("[a-z_]{1,40}")


class EventsFailed(Exception):
    """The engine did not confirm the call before its deadline. A retry can succeed."""


class WrongSecret(EventsFailed):
    """The engine does not accept the secret with which livebackend publishes."""


class InvalidEvent(EventsFailed):
    """No engine accepts this event or channel; a retry fails too."""


def status_error(status: int) -> EventsFailed:
    """Return the error for an unexpected HTTP status of the engine's response."""
    error_class = WrongSecret if status == 403 else EventsFailed
    return error_class(f"the engine responded with HTTP status {status}")


class PublishedEvent(NamedTuple):
    """An event as clients receive it.

    `body` is one line of JSON, with the keys `v`, `type`, `channel`, `seq`, `time` and `data`.
    """

    type: str
    body: bytes


class ChannelEvent(NamedTuple):
    """An event, and the channel whose subscribers receive it."""

    channel: str
    event: PublishedEvent


def check_channel(channel: str) -> None:
    """Raise InvalidEvent unless the text is the name of a channel, such as `user.7`."""
    if not _CHANNEL.fullmatch(channel):
        raise InvalidEvent(f"{channel!r} is not the name of a channel")


def check_event(event: PublishedEvent) -> None:
    """Raise InvalidEvent for an event that is too large, or that could forge fields.

    A line break within the body would end the field of the event stream that contains the body.
    """
    if not _TYPE.fullmatch(event.type):
        raise InvalidEvent(f"{event.type!r} is not a type of events")
    if len(event.body) > MAX_EVENT_BYTES:
        raise InvalidEvent(f"the event {event.type} has more than {MAX_EVENT_BYTES} bytes")
    if not event.body or b"\n" in event.body or b"\r" in event.body:
        raise InvalidEvent(f"the event {event.type} is not one line")


class EngineStatus(NamedTuple):
    """The current load of an engine; with several machines, that of one of them."""

    subscribers: int
    channels: int
    stored_events: int
    # Memory for channels and stored events.
    memory_bytes: int
    max_memory_bytes: int


@runtime_checkable
class EventEngine(Protocol):
    """Delivers events to the subscribers of channels. Every call ends within CALL_TIMEOUT_S.

    The engine accepts a connection only after the application has checked its ticket. A failed call
    can have had its effect: a repeated event must have the same sequence number.
    """

    def publish(self, events: Sequence[ChannelEvent]) -> Sequence[ChannelEvent]:
        """Send events to the subscribers; return those that are not confirmed.

        Subscribers of a channel receive its events in their order. Without subscribers, an event is
        confirmed too. The returned events can have been sent, and contain all later events of their
        channels. Raises EventsFailed if no event is confirmed, and InvalidEvent if no engine
        accepts the first event. One thread at a time can publish.
        """

    def close_channel(self, channel: str) -> None:
        """End all connections that subscribe to a channel. Raises EventsFailed.

        The clients can connect again, if the application still accepts their tickets.
        """

    def subscribers(self, channel: str) -> int:
        """Return the number of connections that subscribe to a channel. Raises EventsFailed."""


@runtime_checkable
class ObservableEngine(Protocol):
    """An engine that reports its status."""

    def status(self) -> EngineStatus:
        """Return the status of the engine. Raises EventsFailed; ends within CALL_TIMEOUT_S."""


@runtime_checkable
class ChildProcessEngine(Protocol):
    """An engine whose server is a child process of livebackend."""

    # The URL at which clients open event streams.
    stream_url: str
    # Starts the server again if it ends.
    server_thread: SupervisedThread

    def start_server(self) -> None:
        """Start the server, unless another process of this installation runs it."""

    def close_server(self) -> None:
        """Stop the server if this process has started it."""
