"""Protection against a server that does not respond: a circuit breaker, a concurrency limit."""

import time
from collections.abc import Callable
from threading import BoundedSemaphore, Lock

# A call takes this long at most, with its connection.
TOTAL_S = 4.0
# Each call holds a thread of the worker. The limit keeps a server that does not respond from
# holding all of them.
CONCURRENCY_MAX, _TURN_S = 4, 1.0
# After so many failures in a row, calls fail at once for the duration of the pause.
_FAILURES_MAX, _PAUSE_S = 3, 10.0


class Deadline:
    """A moment that several calls share, `total_s` from now."""

    def __init__(self, total_s: float = TOTAL_S) -> None:
        self._at = time.monotonic() + total_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._at - time.monotonic())


class Breaker:
    """A circuit breaker: opens after several calls in a row without a response.

    After a pause it admits one call; a response to that call closes it again.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._failures = 0
        self._next_try_at = 0.0

    def admits(self) -> bool:
        with self._lock:
            if self._failures < _FAILURES_MAX:
                return True
            if self._clock() < self._next_try_at:
                return False
            self._next_try_at = self._clock() + _PAUSE_S
            return True

    def answered(self) -> None:
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            self._next_try_at = self._clock() + _PAUSE_S


class Turns:
    """A concurrency limit. A call waits for it only while other calls begin and end."""

    def __init__(self) -> None:
        self._free = BoundedSemaphore(CONCURRENCY_MAX)
        self._moved_at = time.monotonic()

    def take(self, deadline: Deadline) -> bool:
        wait_s = min(self._moved_at + _TURN_S - time.monotonic(), deadline.left_s)
        taken = self._free.acquire(blocking=False) or (
            wait_s > 0 and self._free.acquire(timeout=wait_s)
        )
        if taken:
            self._moved_at = time.monotonic()
        return taken

    def give_back(self) -> None:
        self._moved_at = time.monotonic()
        self._free.release()
