"""The sweeper's thread: rounds over rooms, and chores, in one server process at a time."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy.exc import SQLAlchemyError

from livebackend.core.errors import CommitOutcomeUnknown
from livebackend.database.engine import Database
from livebackend.database.leases import Lease
from livebackend.services.stream_monitor import STALE_S, Streams

log = logging.getLogger(__name__)

# What a round may take.
_ROUND_S = 1
# The process ends in any case; this is for its lease to be given back.
_CLOSE_S = 6


class Sweeper:
    """Sweeps while it holds the lease, so often that no stale room outlives `period_s`.

    After the rooms of a round come the chores, which keep the tables and the disk tidy.

    0: not at all. Its thread starts at a process's first use of it, because threads do not survive
    a fork.
    """

    def __init__(
        self,
        database: Database,
        streams: Streams,
        chores: Sequence[Callable[[], object]] = (),
        *,
        holder: str,
        period_s: float,
    ) -> None:
        self._database = database
        self._streams = streams
        self._chores = chores
        # Between two rounds; the lease lasts as long.
        # What was too young by a little in one round must not be too old in the next.
        self.pause_s = period_s - STALE_S - _ROUND_S
        self._holder = holder
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether the thread runs; it starts with `start` and ends with `close`."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread, unless it runs."""
        if self.pause_s <= 0 or self.is_running:
            return
        with self._lock:
            if self._over.is_set() or self.is_running:
                return
            self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the thread, and leaves the rounds to another process."""
        with self._lock:
            self._over.set()
        if self._thread:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        # Forks of one process share all else. Another one takes over as soon as this one has missed
        # a round.
        lease = Lease("sweeper", f"{self._holder} {os.getpid()}", ttl_s=self.pause_s)
        wait_s = 0.0
        while not self._over.wait(wait_s):
            wait_s = self._round(lease)
        try:
            self._database.run(lease.give_back)
        except (SQLAlchemyError, CommitOutcomeUnknown) as error:
            log.warning("the sweeper's lease ends by itself: %s", type(error).__name__)

    def _round(self, lease: Lease) -> float:
        """Sweeps, if it is this process's turn; returns how long to wait for the next one."""
        start = time.monotonic()
        try:
            others_s = self._database.run(lease.take)
            if others_s:
                return min(others_s, self.pause_s)
            self._streams.sweep(
                lambda: not self._over.is_set() and not self._database.run(lease.take)
            )
            for chore in self._chores:
                self._do(chore)
        except (SQLAlchemyError, CommitOutcomeUnknown) as error:
            log.error("the sweeper's round failed: %s", type(error).__name__, exc_info=error)
        # However long it took, others have their turn at the database.
        return max(0.5, self.pause_s - (time.monotonic() - start))

    def _do(self, chore: Callable[[], object]) -> None:
        try:
            chore()
        except Exception as error:  # the thread must go on: rooms depend on it
            log.error("a chore failed: %s", type(error).__name__, exc_info=error)
