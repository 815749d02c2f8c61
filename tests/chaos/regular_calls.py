"""Calls at regular times, whether or not earlier calls have ended.

The clients of the load wait for each response, so they send nothing while their calls hang. These
calls show at each time whether a call that is sent then succeeds.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.classification import Result

_INTERVAL_S = 0.25
# The HTTP client ends each call earlier.
_MAX_CALL_S = 30.0


@dataclass
class RegularCalls:
    """Sends a call every 0.25 s from `start` to `stop`, each in a thread of its own."""

    send: Callable[[], Result]
    results: list[Result] = field(default_factory=list)
    _is_stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._start_thread(self._run)

    def stop(self) -> None:
        """Send no more calls, and wait for the results of the others."""
        self._is_stopping.set()
        for thread in list(self._threads):
            thread.join(_MAX_CALL_S)

    def _run(self) -> None:
        while not self._is_stopping.wait(_INTERVAL_S):
            self._start_thread(lambda: self.results.append(self.send()))

    def _start_thread(self, function: Callable[[], None]) -> None:
        thread = threading.Thread(target=function, daemon=True)
        self._threads.append(thread)
        thread.start()
