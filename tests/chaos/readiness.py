"""Requests /readyz during a fault."""

import threading
import time
from dataclasses import dataclass, field

from tests.chaos.server import ready_status

_INTERVAL_S = 0.1


@dataclass
class ReadinessLog:
    """The statuses of /readyz, by the time of the request; a thread requests them."""

    port: int
    statuses: list[tuple[float, int]] = field(default_factory=list)
    _is_stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._is_stopping.set()

    def _run(self) -> None:
        while not self._is_stopping.wait(_INTERVAL_S):
            sent_at = time.monotonic()
            self.statuses.append((sent_at, ready_status(self.port)))

    def times(self, *, ready: bool) -> list[float]:
        """Return when the requests were sent whose status was 200, or was not."""
        return [sent_at for sent_at, status in list(self.statuses) if (status == 200) == ready]
