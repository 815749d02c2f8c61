"""The format of event streams (Server-Sent Events), and the ids of their events."""

import re
from typing import NamedTuple

MEDIA_TYPE = "text/event-stream"
# The path to which the application's response to a new connection redirects the engine.
STREAM_PATH_PREFIX = "/_events/"
# Nchan numbers the events of a second per channel: 1795786340:0,[1],- is an id of three channels.
_EVENT_ID = re.compile(r"([0-9]{1,10}):\[?([0-9]{0,10})[0-9,\[\]-]{0,100}")


class EventId(NamedTuple):
    """The position of an event in a stream: a time, and a number within this second.

    The time is in seconds since 1970 UTC.
    """

    time_s: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "EventId | None":
        """Return the position that the id of a client names; None if it is no id."""
        match = _EVENT_ID.fullmatch(text)
        return cls(int(match[1]), int(match[2] or 0)) if match else None

    def __str__(self) -> str:
        return f"{self.time_s}:{self.number}"


def event_lines(event_id: EventId, event_type: str, body: bytes) -> bytes:
    """Return the lines of an event in an event stream."""
    return f"event: {event_type}\nid: {event_id}\ndata: ".encode() + body + b"\n\n"
