"""Housekeeping tasks for the tests."""

from livebackend.housekeeping.periodic_tasks import Tasks
from livebackend.services.payment_reconciliation import ReconciliationResult

# Tasks without any effect.
NO_TASKS = Tasks(lambda: ReconciliationResult(0, 0), lambda: 0, lambda: None)
