"""Protection against a server that does not respond: a circuit breaker, a concurrency limit."""

import time
from collections.abc import Callable
from threading import BoundedSemaphore, Lock

# All of one call; and of it, to be connected.
TOTAL_S = 4.0
# Whoever calls holds one of the server's threads: a few at once, and the next wait only while those
# move on, so that one dead server outside never holds them all.
CONCURRENCY_MAX, _TURN_S = 4, 1.0
# So many calls in a row without an answer, and nobody is kept waiting for a while.
_FAILURES_MAX, _PAUSE_S = 3, 10.0


class Deadline:
    """A moment that several calls share, `total_s` from now."""

    def __init__(self, total_s: float = TOTAL_S) -> None:
        self._at = time.monotonic() + total_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._at - time.monotonic())


class Breaker:
    """Spares callers a server that has just failed to answer several times.

    After a pause one call is let through; its answer lets all others in again.
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
    """A few at once. Whoever finds none free waits, unless none was taken or given back lately."""

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
