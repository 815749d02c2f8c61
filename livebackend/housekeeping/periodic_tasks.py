"""The periodic tasks, and the thread that runs them in one server process at a time."""

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from livebackend.core.errors import CommitOutcomeUnknown
from livebackend.database.engine import Database
from livebackend.database.leases import Lease
from livebackend.services.payment_reconciliation import ReconciliationResult
from livebackend.services.stream_monitor import STALE_S, Streams, Swept

log = logging.getLogger(__name__)

# The time that a round can take.
_ROUND_S = 1
# The process ends in any case; in this time the thread can give its lease back.
_CLOSE_S = 6


class Tasks(NamedTuple):
    """The tasks of a round that follow the check of the rooms, in this order."""

    reconcile_orders: Callable[[], ReconciliationResult]
    # Returns the number of pictures.
    delete_unclaimed_pictures: Callable[[], int]
    delete_expired_rate_limits: Callable[[], None]


class TaskResults(NamedTuple):
    """What one round of all tasks did."""

    rooms: Swept
    orders: ReconciliationResult
    pictures: int


class Sweeper:
    """Runs rounds of all tasks while it holds the lease. No stale room outlives `period_s`.

    With a `period_s` of 0 there is no thread, and only `run_once` runs the tasks.
    """

    def __init__(
        self, database: Database, streams: Streams, tasks: Tasks, *, holder: str, period_s: float
    ) -> None:
        self._database = database
        self._streams = streams
        self._tasks = tasks
        # Between two rounds; the lease lasts as long, so another process takes over as soon as this
        # one has missed a round. A room that was slightly too young to be stale in one round must
        # not be too old in the next.
        self.pause_s = period_s - STALE_S - _ROUND_S
        self._lease = Lease("sweeper", holder, ttl_s=self.pause_s)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether the thread runs; it starts with `start` and ends with `close`."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, unless `period_s` is 0. Call this once."""
        if self.pause_s > 0:
            self._thread.start()

    def close(self) -> None:
        """End the thread, and leave the rounds to another process."""
        self._over.set()
        if self.is_running:
            self._thread.join(_CLOSE_S)

    def run_once(self) -> TaskResults:
        """Run all tasks once, without the lease. The first error ends the round."""
        rooms = self._streams.sweep()
        orders = self._tasks.reconcile_orders()
        pictures = self._tasks.delete_unclaimed_pictures()
        self._tasks.delete_expired_rate_limits()
        return TaskResults(rooms, orders, pictures)

    def _run(self) -> None:
        wait_s = 0.0
        while not self._over.wait(wait_s):
            wait_s = self._round()
        try:
            self._database.run(self._lease.give_back)
        except (SQLAlchemyError, CommitOutcomeUnknown) as error:
            log.warning("the sweeper's lease ends by itself: %s", type(error).__name__)

    def _round(self) -> float:
        """Run all tasks if this process gets the lease; return the seconds until the next try."""
        start = time.monotonic()
        try:
            others_s = self._database.run(self._lease.take)
            if others_s:
                return min(others_s, self.pause_s)
            self._streams.sweep(
                lambda: not self._over.is_set() and not self._database.run(self._lease.take)
            )
            for task in self._tasks:
                self._do(task)
        except (SQLAlchemyError, CommitOutcomeUnknown) as error:
            log.error("the sweeper's round failed: %s", type(error).__name__, exc_info=error)
        # A pause even after a slow round, so that the rounds leave the database to the requests.
        return max(0.5, self.pause_s - (time.monotonic() - start))

    def _do(self, task: Callable[[], object]) -> None:
        try:
            task()
        except Exception as error:  # the thread must go on: rooms depend on it
            log.error("a periodic task failed: %s", type(error).__name__, exc_info=error)
