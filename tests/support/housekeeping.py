"""Housekeeping tasks for the tests."""

from livebackend.housekeeping.periodic_tasks import HousekeepingTasks
from livebackend.services.payment_reconciliation import ReconciliationResult

# Housekeeping tasks that do nothing, for tests of the stream monitor alone.
NO_OTHER_TASKS = HousekeepingTasks(lambda: ReconciliationResult(0, 0), lambda: 0, lambda: None)
