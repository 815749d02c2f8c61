"""The batch writer: a thread that posts all transfers of a process in batches."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as ResultTimeout
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.core.errors import CommitOutcomeUnknown, LedgerBusy, ServiceUnavailable
from livebackend.database.engine import Database, is_connection_lost, require_replication
from livebackend.ledger.posting import post
from livebackend.ledger.transfers import Transfer, TransferOutcome, TransferStatus

log = logging.getLogger(__name__)

_MAX_BATCH = 512
_MAX_QUEUE = 2048
# Between two attempts while the database is unavailable.
_RETRY_PAUSE_S = 0.05
# Long enough for the current batch to be committed or to reach its deadline.
_CLOSE_TIMEOUT_S = 10


@dataclass(eq=False)
class _PendingTransfer:
    """A submitted transfer; its caller waits until `deadline`, by time.monotonic()."""

    transfer: Transfer
    deadline: float
    # True as soon as a COMMIT could have been sent; from then on, failures are outcome_unknown.
    commit_sent: bool = False
    outcome: Future[TransferOutcome] = field(default_factory=Future)

    def fail(self, error: Exception) -> None:
        self.outcome.set_exception(_outcome_unknown() if self.commit_sent else error)


class LedgerMetrics(Protocol):
    """Metrics of a batch writer."""

    def set_queue_length(self, transfers: int) -> None:
        """Record the current length of the queue."""

    def observe_batch(self, transfers: int) -> None:
        """Record the size of a batch."""


class LedgerBatchWriter:
    """Posts transfers in batches, in its own thread and with its own connection.

    There is no timer: the next batch collects in the queue while the current one is posted and
    committed. Writers with different numbers credit different balance shards of an account, so
    they do not wait for each other.
    """

    def __init__(
        self,
        database: Database,
        *,
        writer_number: int,
        max_batch_size: int = _MAX_BATCH,
        max_queue_length: int = _MAX_QUEUE,
        metrics: LedgerMetrics | None = None,
    ) -> None:
        self._database = database
        self._number = writer_number
        self._metrics = metrics
        self._max_batch = max_batch_size
        self._max_queue = max_queue_length
        self._changed = threading.Condition()
        self._queue: deque[_PendingTransfer] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def queue_length(self) -> int:
        """The number of transfers that are not yet in a batch."""
        return len(self._queue)

    @property
    def is_running(self) -> bool:
        """Whether the thread runs; it is started by the first transfer."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_closed(self) -> bool:
        """Whether the writer rejects new transfers."""
        return self._closed

    def submit(self, transfer: Transfer, *, deadline: float) -> TransferOutcome:
        """Post a transfer; return its outcome after the commit.

        `deadline` is a time.monotonic() value. The caller must not have an open transaction. Raises
        LedgerBusy if the transfer is not in a batch before the deadline: no coins moved. Raises
        ServiceUnavailable if the queue is full or the writer is closed: no coins moved. Raises
        ServiceUnavailable with `outcome_unknown` if the commit is not confirmed before the
        deadline; the caller can then retry with the same request id.
        """
        pending = _PendingTransfer(transfer, deadline)
        with self._changed:
            if self._closed or len(self._queue) >= self._max_queue:
                raise ServiceUnavailable("ledger: the queue is full or closed, no coins moved")
            self._start()
            self._queue.append(pending)
            if self._metrics:
                self._metrics.set_queue_length(len(self._queue))
            self._changed.notify()
        try:
            return pending.outcome.result(max(0, deadline - time.monotonic()))
        except ResultTimeout:
            return self._give_up(pending)

    def close(self) -> None:
        """Reject new transfers, and wait until the queued ones are posted, 10 s at most."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread:
            self._thread.join(_CLOSE_TIMEOUT_S)

    def _give_up(self, pending: _PendingTransfer) -> TransferOutcome:
        with self._changed:
            if pending in self._queue:
                self._queue.remove(pending)
                raise LedgerBusy
        if pending.outcome.done():  # since the timeout
            return pending.outcome.result()
        raise _outcome_unknown()

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="ledger", daemon=True)
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        # A separate pool: requests that wait for the writer can hold all other connections. The
        # lock timeout must fit twice into a deadline: for the batch, then for a single transfer.
        database = Database(self._database.engine.url, pool_size=1, lock_timeout_s=1)
        event.listen(database.engine, "connect", _receive_only_warnings)
        while batch := self._next_batch():
            self._post_and_resolve(database, batch)
        database.close()

    def _next_batch(self) -> list[_PendingTransfer]:
        """Wait for the next batch; return an empty list when closed."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            size = min(len(self._queue), self._max_batch)
            batch = [self._queue.popleft() for _ in range(size)]
            if self._metrics and batch:
                self._metrics.observe_batch(len(batch))
                self._metrics.set_queue_length(len(self._queue))
            return batch

    def _post_and_resolve(self, database: Database, batch: Sequence[_PendingTransfer]) -> None:
        """Post a batch, and set the outcome of each transfer.

        If the batch fails, its transfers are posted one by one, so that only the invalid ones fail.
        """
        try:
            outcomes = self._post(database, batch)
        except ServiceUnavailable:
            for pending in batch:
                pending.fail(ServiceUnavailable("ledger: transfer not posted in time"))
        except Exception as error:  # noqa: BLE001  # must reach the callers, which wait elsewhere
            if len(batch) == 1:
                batch[0].fail(error)
                return
            log.warning(
                "ledger: batch of %s transfers failed, posting them one by one: %s",
                len(batch),
                type(error).__name__,
            )
            for pending in batch:
                self._post_alone(database, pending)
        else:
            for pending, outcome in zip(batch, outcomes, strict=True):
                pending.outcome.set_result(outcome)

    def _post_alone(self, database: Database, pending: _PendingTransfer) -> None:
        if time.monotonic() < pending.deadline:
            self._post_and_resolve(database, [pending])
        else:  # do not delay the transfers whose callers still wait
            pending.fail(ServiceUnavailable("ledger: transfer not posted in time"))

    def _post(self, database: Database, batch: Sequence[_PendingTransfer]) -> list[TransferOutcome]:
        """Commit a batch; retry with the same request ids until the commit is confirmed.

        A COMMIT is unconfirmed if the connection is lost, or if PostgreSQL sends a warning:
        pg_cancel_backend ends the wait for the standby, and the commit is only local.
        Raises ServiceUnavailable after the last deadline of the batch.
        """
        deadline = max(pending.deadline for pending in batch)
        while True:
            try:
                outcomes, warnings = database.run(partial(self._attempt, batch=batch))
            except (CommitOutcomeUnknown, DBAPIError, PoolTimeout) as error:
                if not is_connection_lost(error):
                    raise
                log.warning("ledger: database connection lost, %s transfers pending", len(batch))
            else:
                if not warnings:
                    return outcomes
                warning = warnings[0].partition("\n")[0]
                log.warning(
                    "ledger: COMMIT not confirmed, posting %s transfers again: %s",
                    len(batch),
                    warning,
                )
            if time.monotonic() > deadline:
                raise ServiceUnavailable("ledger: no batch committed before the deadline")
            time.sleep(_RETRY_PAUSE_S)

    def _attempt(
        self, connection: Connection, batch: Sequence[_PendingTransfer]
    ) -> tuple[list[TransferOutcome], list[str]]:
        """Post a batch; return its outcomes, and the list for the warnings of the COMMIT."""
        driver: Any = connection.connection.driver_connection
        outcomes = post(connection, [pending.transfer for pending in batch], self._number)
        statuses = {outcome.status for outcome in outcomes}
        driver.notices.clear()
        if TransferStatus.DONE not in statuses:
            if TransferStatus.REPLAYED not in statuses:  # no result depends on an earlier commit
                connection.rollback()  # discards the empty slots that post() has inserted
                return outcomes, driver.notices
            # Discards those slots and releases the locks before the COMMIT waits for the standby.
            # Not rollback(): within this block, SQLAlchemy allows no statements after it.
            connection.exec_driver_sql("ROLLBACK AND CHAIN")
            require_replication(connection)
        for pending in batch:
            pending.commit_sent = True
        return outcomes, driver.notices


def _receive_only_warnings(connection: Any, _record: object) -> None:
    """Suppress notices below WARNING, whose localized texts cannot be filtered."""
    with connection.cursor() as cursor:
        cursor.execute("SET client_min_messages = warning")
    connection.commit()


def _outcome_unknown() -> ServiceUnavailable:
    return ServiceUnavailable("ledger: commit not confirmed", outcome_unknown=True)
