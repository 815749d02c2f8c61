"""Circuit breaker and concurrency limit for calls to providers."""

import time
from collections.abc import Callable
from threading import BoundedSemaphore, Lock

# Time limit of one call to a provider, including the connection setup.
CALL_TIMEOUT_S = 4.0
# Maximum per provider: each call occupies a thread of the worker, and an unresponsive provider must
# not occupy all threads.
MAX_CONCURRENT_CALLS = 4
# A call that waits for a permit fails if no other call to the provider has started or ended for
# this long.
_STALL_TIMEOUT_S = 1.0
# After _MAX_FAILURES consecutive failures, calls fail immediately, by default for OPEN_DURATION_S.
_MAX_FAILURES, OPEN_DURATION_S = 3, 10.0


class Deadline:
    """A deadline `timeout_s` seconds after its creation; several calls can share it."""

    def __init__(self, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._expires_at = time.monotonic() + timeout_s

    @property
    def remaining_s(self) -> float:
        return max(0.0, self._expires_at - time.monotonic())


class CircuitBreaker:
    """Opens after `_MAX_FAILURES` consecutive calls without a response.

    While open, it lets one call through every `open_duration_s` seconds. A response closes it.
    """

    def __init__(
        self,
        *,
        open_duration_s: float = OPEN_DURATION_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_duration_s = open_duration_s
        self._clock = clock
        self._lock = Lock()
        self._failures = 0
        self._next_attempt_at = 0.0

    def allows_call(self) -> bool:
        with self._lock:
            if self._failures < _MAX_FAILURES:
                return True
            if self._clock() < self._next_attempt_at:
                return False
            self._next_attempt_at = self._clock() + self._open_duration_s
            return True

    def record_success(self) -> None:
        with self._lock:
            self._failures = 0

    def record_failure(self) -> None:
        with self._lock:
            self._failures += 1
            self._next_attempt_at = self._clock() + self._open_duration_s


class ConcurrencyLimit:
    """A limit on concurrent calls to one provider.

    A call waits for a permit until its deadline. It fails earlier if no other call has started or
    ended for `_STALL_TIMEOUT_S`.
    """

    def __init__(self) -> None:
        self._semaphore = BoundedSemaphore(MAX_CONCURRENT_CALLS)
        self._changed_at = time.monotonic()

    def acquire(self, deadline: Deadline) -> bool:
        wait_s = min(self._changed_at + _STALL_TIMEOUT_S - time.monotonic(), deadline.remaining_s)
        is_acquired = self._semaphore.acquire(blocking=False) or (
            wait_s > 0 and self._semaphore.acquire(timeout=wait_s)
        )
        if is_acquired:
            self._changed_at = time.monotonic()
        return is_acquired

    def release(self) -> None:
        self._changed_at = time.monotonic()
        self._semaphore.release()
