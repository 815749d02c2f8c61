"""The current request: its id, start time, time for the database, and client connection."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

# The request id is "-" outside of a request.
request_id: ContextVar[str] = ContextVar("request_id", default="-")

# The time.monotonic() value at which the request began; None outside of a request.
request_started_at: ContextVar[float | None] = ContextVar("request_started_at", default=None)


@dataclass(slots=True)
class DatabaseBudget:
    """The seconds that a request can still wait for the database, in all of its calls.

    With the last wait for a new connection, a request then ends within 5 s. Waits for a password
    hash or a provider do not count.
    """

    remaining_s: float = 4.0


# None outside of a request.
database_budget: ContextVar[DatabaseBudget | None] = ContextVar("database_budget", default=None)

# Returns whether a client still waits for the response.
ConnectionCheck = Callable[[], bool]


def _assume_connected() -> ConnectionCheck:
    return lambda: True


# Starts to watch the connection of the current request.
watch_connection: ContextVar[Callable[[], ConnectionCheck]] = ContextVar(
    "watch_connection", default=_assume_connected
)
