"""Housekeeping tasks that do nothing, for tests of the stream monitor."""

from livebackend.housekeeping.periodic_tasks import HousekeepingTasks
from livebackend.services.payment_reconciliation import ReconciliationResult

NO_OTHER_TASKS = HousekeepingTasks(
    lambda: ReconciliationResult(0, 0), lambda: 0, lambda: None, lambda: 0, lambda: None
)
