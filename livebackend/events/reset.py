"""The event `reset`: the client can have missed events."""

from datetime import UTC, datetime

import orjson

from livebackend.events.declarations import EVENTS, FORMAT_VERSION
from livebackend.gateways.events.event_stream import EventId, event_lines

# The operations that return the current state, which the event names.
OPERATIONS = sorted({event.operation for event in EVENTS.values() if event.operation})


def reset_lines(event_id: EventId) -> bytes:
    """Return the lines of the event in a stream, which the client resumes after `event_id`.

    The client must read its lists again, with the operations that the event names.
    """
    time = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    event = {"v": FORMAT_VERSION, "type": "reset", "time": time, "data": {"operations": OPERATIONS}}
    return event_lines(event_id, "reset", orjson.dumps(event))
