"""The housekeeping tasks, and the thread that runs them in one worker at a time."""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from livebackend.core.errors import CommitOutcomeUnknown
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.database.engine import Database
from livebackend.database.leases import Lease
from livebackend.services.payment_reconciliation import ReconciliationResult
from livebackend.services.stream_monitor import OPENING_TIMEOUT_S, StreamCheckResult, StreamMonitor

log = logging.getLogger(__name__)

# Seconds of each period that are reserved for running the tasks.
_ROUND_DURATION_S = 1
# Seconds that `close` waits for the housekeeping thread to release the lease.
_CLOSE_TIMEOUT_S = 6
# A round that takes longer is reported as blocked. Deleting many old rows takes minutes.
_MAX_ROUND_S = 600


class HousekeepingTasks(NamedTuple):
    """The tasks that run after the check of the rooms, in the order of the fields."""

    reconcile_orders: Callable[[], ReconciliationResult]
    # Returns the number of deleted pictures.
    delete_unused_pictures: Callable[[], int]
    delete_expired_rate_limits: Callable[[], object]
    # Returns the number of deleted rows.
    delete_old_rows: Callable[[], int]
    delete_expired_blocks: Callable[[], object]


class HousekeepingResult(NamedTuple):
    """The results of running every housekeeping task once."""

    rooms: StreamCheckResult
    orders: ReconciliationResult
    deleted_pictures: int
    deleted_rows: int


class PeriodicTasks:
    """Runs all housekeeping tasks periodically while this worker holds the lease.

    A room that a crash left in the state `opening` is closed within `period_s`. If `period_s` is 0,
    there is no thread, and only `run_once` runs the tasks.
    """

    def __init__(
        self,
        database: Database,
        stream_monitor: StreamMonitor,
        tasks: HousekeepingTasks,
        *,
        holder: str,
        period_s: float,
    ) -> None:
        self._database = database
        self._stream_monitor = stream_monitor
        self._tasks = tasks
        # Seconds between two runs. This is less than `period_s`, so that a room that becomes stale
        # just after a run is still closed within `period_s`. The lease expires after the same time,
        # so that another worker replaces a holder that has stopped.
        self.interval_s = period_s - OPENING_TIMEOUT_S - _ROUND_DURATION_S
        self._lease = Lease("housekeeping", holder, ttl_s=self.interval_s)
        # The tasks that failed in the last round of this worker.
        self.failed_tasks: frozenset[str] = frozenset()
        self.thread = SupervisedThread("housekeeping", self._run, max_work_s=_MAX_ROUND_S)

    @property
    def is_running(self) -> bool:
        """Whether the housekeeping thread runs."""
        return self.thread.is_running

    def start(self) -> None:
        """Start the thread, unless `period_s` is 0. Call this method once."""
        if self.interval_s > 0:
            self.thread.start()

    def close(self) -> None:
        """Stop the thread and release the lease."""
        self.thread.close(_CLOSE_TIMEOUT_S)

    def run_once(self) -> HousekeepingResult:
        """Run all tasks once, without the lease. If a task fails, later tasks do not run."""
        rooms = self._stream_monitor.check_rooms()
        orders = self._tasks.reconcile_orders()
        deleted_pictures = self._tasks.delete_unused_pictures()
        self._tasks.delete_expired_rate_limits()
        deleted_rows = self._tasks.delete_old_rows()
        self._tasks.delete_expired_blocks()
        return HousekeepingResult(rooms, orders, deleted_pictures, deleted_rows)

    def _run(self) -> None:
        wait_s = 0.0
        try:
            while not self.thread.closing.wait(wait_s):
                with self.thread.work():
                    wait_s = self._run_round()
        finally:
            # Also after an unexpected error, so that another worker runs the tasks.
            self._release_lease()

    def _release_lease(self) -> None:
        try:
            self._database.run(self._lease.release)
        except (SQLAlchemyError, CommitOutcomeUnknown) as error:
            log.warning(
                "housekeeping: release of the lease failed, the lease will expire: %s",
                type(error).__name__,
            )

    def _run_round(self) -> float:
        """Run all tasks if the lease is acquired; return the seconds until the next run."""
        start = time.monotonic()
        try:
            lease_wait_s = self._database.run(self._lease.acquire)
            if lease_wait_s:
                self.failed_tasks = frozenset()
                return min(lease_wait_s, self.interval_s)
            self._stream_monitor.check_rooms(
                lambda: (
                    not self.thread.closing.is_set() and not self._database.run(self._lease.acquire)
                )
            )
            tasks = self._tasks._asdict()
            self.failed_tasks = frozenset(
                name for name, task in tasks.items() if not self._try_task(name, task)
            )
        except (SQLAlchemyError, CommitOutcomeUnknown) as error:
            log.error("housekeeping: round failed: %s", type(error).__name__, exc_info=error)
        # Even after a slow run, the thread pauses, so that housekeeping does not slow down
        # requests.
        return max(0.5, self.interval_s - (time.monotonic() - start))

    def _try_task(self, name: str, task: Callable[[], object]) -> bool:
        try:
            task()
        except Exception as error:  # a failed task must not stop the tasks after it
            log.error(
                "housekeeping: task %s failed: %s", name, type(error).__name__, exc_info=error
            )
            return False
        return True
