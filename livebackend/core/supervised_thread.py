"""Background threads that start again after an error."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

# Pause before the first restart; each further restart doubles it.
_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 10.0
# A thread has recovered if it has worked for this long after its last error.
_RECOVERY_S = 10.0


def start_thread(name: str, run: Callable[[], None]) -> threading.Thread | None:
    """Start a daemon thread; return None if the system cannot start one, which is logged."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # too many threads, or not enough memory
        log.error("thread %s: not started: %s", name, error)
        return None
    return thread


class SupervisedThread:
    """Runs a function in a background thread, and runs it again after an unexpected error.

    The thread ends when the function returns; `start` then starts another one. The function must
    return soon after the owner has told it to, before the owner calls `close`.

    A server without an `is_required` thread must not get requests. The thread is blocked if a block
    of `work` takes longer than `max_work_s`.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[], None],
        *,
        is_required: bool = False,
        max_pause_s: float = _MAX_PAUSE_S,
        max_work_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.is_required = is_required
        # The number of unexpected errors; the thread was restarted after each one.
        self.failures = 0
        self.max_work_s = max_work_s
        # Set when `close` is called.
        self.closing = threading.Event()
        self._run = run
        self._max_pause_s = max_pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._start_failed = False
        self._is_paused = False
        self._last_error = ""
        self._last_failure_at = -math.inf
        self._consecutive_failures = 0
        self._work_started_at: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether the thread runs or waits for its restart."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_failed(self) -> bool:
        """Whether the thread cannot work now."""
        return self._start_failed or self._is_paused or self._is_blocked

    @property
    def problem(self) -> str | None:
        """Why the thread does not work, or has not yet recovered; None if it works."""
        if self._start_failed:
            return "the thread cannot be started"
        if self._is_blocked:
            return f"the thread has been blocked for more than {self.max_work_s:g} s"
        if self._is_paused or self._clock() < self._last_failure_at + _RECOVERY_S:
            return f"the thread failed with {self._last_error}"
        return None

    def start(self) -> bool:
        """Start the thread unless it runs; return whether it does."""
        if self.is_running:  # without the lock, because owners call this method for each request
            return True
        with self._lock:
            if not self.is_running and not self.closing.is_set():
                self._thread = start_thread(self.name, self._supervise)
                self._start_failed = self._thread is None
            return self.is_running

    def retry_start(self) -> None:
        """Start the thread if the last start failed."""
        if self._start_failed:
            self.start()

    def close(self, timeout_s: float) -> None:
        """Stop restarting the function; wait up to `timeout_s` for the thread to end."""
        self.closing.set()
        if self._thread:
            self._thread.join(timeout_s)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Mark a piece of work of the function, which must end within `max_work_s`."""
        self._work_started_at = self._clock()
        try:
            yield
        finally:
            self._work_started_at = None

    @property
    def _is_blocked(self) -> bool:
        started_at = self._work_started_at
        return started_at is not None and self._clock() > started_at + self.max_work_s

    def _supervise(self) -> None:
        while True:
            started_at = self._clock()
            try:
                self._run()
            # The thread must survive any error, also the SystemExit of a library.
            except BaseException as error:  # noqa: BLE001
                pause_s = self._register_failure(error, started_at)
            else:
                return
            self._is_paused = True
            is_closing = self.closing.wait(pause_s)
            self._is_paused = False
            if is_closing:
                return

    def _register_failure(self, error: BaseException, started_at: float) -> float:
        """Log and store an error; return the seconds until the restart."""
        self._last_error = type(error).__name__
        self._last_failure_at = self._clock()
        self.failures += 1
        has_recovered = self._last_failure_at > started_at + _RECOVERY_S
        self._consecutive_failures = 1 if has_recovered else self._consecutive_failures + 1
        # The exponent is bounded, because 2.0 ** 1024 is an error.
        doublings = min(self._consecutive_failures - 1, 16)
        pause_s = min(_FIRST_PAUSE_S * 2.0**doublings, self._max_pause_s)
        log.error(
            "thread %s: failed with %s, restart in %.1f s",
            self.name,
            self._last_error,
            pause_s,
            exc_info=error,
        )
        return pause_s
