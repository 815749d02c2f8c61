"""The current request: its id, its start time, and the connection of its client."""

from collections.abc import Callable
from contextvars import ContextVar

# The request id is "-" outside of a request.
request_id: ContextVar[str] = ContextVar("request_id", default="-")

# The time.monotonic() value at which the request began; None outside of a request.
request_started_at: ContextVar[float | None] = ContextVar("request_started_at", default=None)

# Returns whether a client still waits for the response.
ConnectionCheck = Callable[[], bool]


def _assume_connected() -> ConnectionCheck:
    return lambda: True


# Starts to watch the connection of the current request.
watch_connection: ContextVar[Callable[[], ConnectionCheck]] = ContextVar(
    "watch_connection", default=_assume_connected
)
