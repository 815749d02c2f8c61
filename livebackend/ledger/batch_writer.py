"""The batch writer: a thread that posts all transfers of a process in batches."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from secrets import randbelow
from typing import Any, Protocol

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.core.errors import CommitOutcomeUnknown, LedgerBusy, ServiceUnavailable
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.database.engine import Database, is_connection_lost, require_replication
from livebackend.ledger.posting import post
from livebackend.ledger.transfers import Transfer, TransferOutcome, TransferStatus
from livebackend.models import CREDIT_SLOTS

log = logging.getLogger(__name__)

_MAX_BATCH_SIZE = 512
_MAX_QUEUE_LENGTH = 2048
# By then, the deadlines of the transfers in a batch are over.
_CALL_TIMEOUT_S = 4.0
# Claims a number that no other writer has, until the connection is closed. No other advisory lock
# may have 5301 as its first key. With OFFSET 0, PostgreSQL locks only until a lock succeeds.
_CLAIM_NUMBER = text(
    """
    SELECT number FROM (
        SELECT number FROM generate_series(0, :last_number) AS number ORDER BY random() OFFSET 0
    ) AS numbers WHERE pg_try_advisory_lock(5301, number) LIMIT 1
    """
)
_NUMBER = "livebackend_ledger_writer"
# Pause between two attempts to post a batch while the database is unavailable.
_RETRY_PAUSE_S = 0.05
# Seconds that `close` waits for the thread. By then, the current batch is committed, or the
# deadlines of its transfers are over.
_CLOSE_TIMEOUT_S = 10
# Longest pause before the writer restarts after an unexpected error: transfers wait meanwhile.
_MAX_PAUSE_S = 1.0
# A batch that takes longer is reported as blocked. The deadlines of its transfers are over by then.
_MAX_BATCH_S = 20


class PendingTransfer:
    """A submitted transfer, whose caller waits until `deadline` (time.monotonic())."""

    def __init__(self, transfer: Transfer, deadline: float) -> None:
        self.transfer = transfer
        self.deadline = deadline
        # True from just before the COMMIT is sent. If an error follows, the outcome is unknown.
        self.commit_sent = False
        self._result: TransferOutcome | Exception | None = None
        # Released with the result: waiting for a lock needs fewer steps than a Future.
        self._unresolved = threading.Lock()
        self._unresolved.acquire()

    @property
    def is_resolved(self) -> bool:
        return self._result is not None

    def wait(self) -> bool:
        """Wait until the result is set, or the deadline; return whether the result is set."""
        return self._unresolved.acquire(timeout=max(0, self.deadline - time.monotonic()))

    def outcome(self) -> TransferOutcome:
        """Return the outcome, or raise the error that was set."""
        result = self._result  # read once: the writer can set it at any time
        if isinstance(result, Exception):
            raise result
        if result is None:
            raise _outcome_unknown()
        return result

    def resolve(self, result: TransferOutcome | Exception) -> None:
        """Set the result, once, and wake the caller."""
        self._result = result
        self._unresolved.release()

    def fail(self, error: Exception) -> None:
        self.resolve(_outcome_unknown() if self.commit_sent else error)


class LedgerMetrics(Protocol):
    """Receives the metrics of a batch writer."""

    def set_queue_length(self, transfers: int) -> None:
        """Record the number of transfers in the writer's queue."""

    def observe_batch(self, transfers: int) -> None:
        """Record the number of transfers in a batch."""


class LedgerBatchWriter:
    """Posts transfers in batches, in its own thread and with its own connection.

    While one batch is posted and committed, new transfers wait in the queue; they form the next
    batch. Every writer has a number. Writers with different numbers credit different balance shards
    of an account, so that these writers seldom wait for each other's locks. Without
    `writer_number`, each connection claims a number that no other writer of the database has.
    """

    def __init__(
        self,
        database: Database,
        *,
        writer_number: int | None = None,
        max_batch_size: int = _MAX_BATCH_SIZE,
        max_queue_length: int = _MAX_QUEUE_LENGTH,
        metrics: LedgerMetrics | None = None,
        writes_events: bool = False,
    ) -> None:
        self._database = database
        self._number = writer_number
        self._metrics = metrics
        self._writes_events = writes_events
        self._max_batch_size = max_batch_size
        self._max_queue_length = max_queue_length
        self._changed = threading.Condition()
        self._queue: deque[PendingTransfer] = deque()
        self._closed = False
        self.thread = SupervisedThread(
            "ledger",
            self._post_batches,
            is_required=True,
            max_pause_s=_MAX_PAUSE_S,
            max_work_s=_MAX_BATCH_S,
        )

    @property
    def queue_length(self) -> int:
        """The number of transfers that are not yet in a batch."""
        return len(self._queue)

    @property
    def is_running(self) -> bool:
        """Whether the writer's thread runs; the first transfer starts the thread."""
        return self.thread.is_running

    @property
    def is_closed(self) -> bool:
        """Whether the writer rejects new transfers."""
        return self._closed

    def submit(self, transfer: Transfer, *, deadline: float) -> TransferOutcome:
        """Post a transfer; return its outcome after the commit.

        `deadline` is a time.monotonic() value. The caller must not have an open transaction.

        Raises LedgerBusy if the transfer is not in a batch before the deadline: no coins moved.
        Raises ServiceUnavailable if the queue is full, or the writer is closed or cannot start: no
        coins moved.
        Raises ServiceUnavailable with `outcome_unknown` if the commit is not confirmed before the
        deadline; the caller can then retry with the same request id.
        """
        pending = PendingTransfer(transfer, deadline)
        with self._changed:
            if self._closed or len(self._queue) >= self._max_queue_length:
                raise ServiceUnavailable("ledger: the queue is full or the writer is closed")
            if not self.thread.start():
                raise ServiceUnavailable("ledger: the writer cannot start")
            self._queue.append(pending)
            if self._metrics:
                self._metrics.set_queue_length(len(self._queue))
            self._changed.notify()
        return pending.outcome() if pending.wait() else self._remove_from_queue(pending)

    def close(self) -> None:
        """Reject new transfers; wait up to `_CLOSE_TIMEOUT_S` for the queue to become empty."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self.thread.close(_CLOSE_TIMEOUT_S)

    def _remove_from_queue(self, pending: PendingTransfer) -> TransferOutcome:
        """Cancel a transfer that is still in the queue, and raise LedgerBusy.

        If the transfer is already in a batch, return its outcome or raise ServiceUnavailable.
        """
        with self._changed:
            if pending in self._queue:
                self._queue.remove(pending)
                raise LedgerBusy
        return pending.outcome()  # the outcome can arrive just after the timeout

    def _post_batches(self) -> None:
        # The writer has a separate pool, because requests that wait for the writer can hold all
        # connections of the shared pool. A transfer can wait for locks twice before its deadline,
        # first in its batch and then alone, so the lock timeout is short.
        database = Database(
            self._database.engine.url,
            pool_size=1,
            lock_timeout_s=1,
            call_timeout_s=_CALL_TIMEOUT_S,
            availability=self._database.availability,
        )
        event.listen(database.engine, "connect", _receive_only_warnings)
        try:
            while batch := self._next_batch():
                with self.thread.work(), _resolved(batch):
                    self._observe(batch)
                    self._post_and_resolve(database, batch)
        finally:
            database.close()

    def _next_batch(self) -> list[PendingTransfer]:
        """Wait for queued transfers and return them; an empty list ends the thread."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            batch_size = min(len(self._queue), self._max_batch_size)
            return [self._queue.popleft() for _ in range(batch_size)]

    def _observe(self, batch: Sequence[PendingTransfer]) -> None:
        if self._metrics:
            self._metrics.observe_batch(len(batch))
            self._metrics.set_queue_length(len(self._queue))

    def _post_and_resolve(self, database: Database, batch: Sequence[PendingTransfer]) -> None:
        """Post a batch, and set the outcome of each transfer.

        If the batch fails, its transfers are posted one by one, so that only the invalid
        transfers fail.
        """
        try:
            outcomes = self._post(database, batch)
        except ServiceUnavailable:
            for pending in batch:
                pending.fail(ServiceUnavailable("ledger: transfer not posted before its deadline"))
        except Exception as error:  # noqa: BLE001  # the callers wait in other threads
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
                pending.resolve(outcome)

    def _post_alone(self, database: Database, pending: PendingTransfer) -> None:
        if time.monotonic() < pending.deadline:
            self._post_and_resolve(database, [pending])
        else:  # its caller no longer waits; posting it would delay transfers whose callers wait
            pending.fail(ServiceUnavailable("ledger: transfer not posted before its deadline"))

    def _post(self, database: Database, batch: Sequence[PendingTransfer]) -> list[TransferOutcome]:
        """Post a batch; retry with the same request ids until the commit is confirmed.

        A COMMIT is unconfirmed if the connection is lost, or if PostgreSQL sends a warning: after
        pg_cancel_backend, PostgreSQL commits without waiting for the standby.
        Raises ServiceUnavailable after the latest deadline of the transfers.
        """
        deadline = max(pending.deadline for pending in batch)
        was_loss_logged = False
        while True:
            try:
                outcomes, warnings = database.run(partial(self._post_once, batch=batch))
            except (CommitOutcomeUnknown, DBAPIError, PoolTimeout) as error:
                if not is_connection_lost(error):
                    raise
                if not was_loss_logged:
                    log.warning("ledger: database unavailable, %s transfers pending", len(batch))
                was_loss_logged = True
            else:
                if not warnings:
                    return outcomes
                warning = warnings[0].partition("\n")[0]
                log.warning(
                    "ledger: COMMIT not confirmed, retrying %s transfers with the same"
                    " request ids: %s",
                    len(batch),
                    warning,
                )
            if time.monotonic() > deadline:
                raise ServiceUnavailable("ledger: batch not committed before its deadline")
            time.sleep(_RETRY_PAUSE_S)

    def _post_once(
        self, connection: Connection, batch: Sequence[PendingTransfer]
    ) -> tuple[list[TransferOutcome], list[str]]:
        """Post a batch once; return its outcomes, and the driver's list of warnings.

        The caller commits; the driver then appends the warnings of the COMMIT to this list.
        """
        driver: Any = connection.connection.driver_connection
        number = _claimed_number(connection) if self._number is None else self._number
        outcomes = post(
            connection,
            [pending.transfer for pending in batch],
            number,
            writes_events=self._writes_events,
        )
        statuses = {outcome.status for outcome in outcomes}
        driver.notices.clear()
        if TransferStatus.DONE not in statuses:
            # No transfer was posted. If none was replayed, all were rejected: nothing to commit.
            if TransferStatus.REPLAYED not in statuses:
                connection.rollback()  # discards the empty shards that post() has inserted
                return outcomes, driver.notices
            # ROLLBACK discards the empty shards and releases the locks before the COMMIT waits for
            # the standby. After rollback(), SQLAlchemy would allow no more statements in this
            # block.
            connection.exec_driver_sql("ROLLBACK AND CHAIN")
            require_replication(connection)
        for pending in batch:
            pending.commit_sent = True
        return outcomes, driver.notices


def _claimed_number(connection: Connection) -> int:
    """Return the writer number of this connection; claim a number if it has none.

    If all numbers are in use, returns a random one: shared numbers are slower, but correct.
    """
    info = connection.info
    if _NUMBER not in info:
        values = {"last_number": CREDIT_SLOTS - 1}
        number = connection.execute(_CLAIM_NUMBER, values).scalar()
        info[_NUMBER] = randbelow(CREDIT_SLOTS) if number is None else number
    claimed_number: int = info[_NUMBER]
    return claimed_number


@contextmanager
def _resolved(batch: Sequence[PendingTransfer]) -> Iterator[None]:
    """After an unexpected error, report the outcomes that are not set as unknown."""
    try:
        yield
    finally:
        for pending in batch:
            if not pending.is_resolved:
                pending.resolve(_outcome_unknown())


def _receive_only_warnings(connection: Any, _record: object) -> None:
    """Make PostgreSQL send no notices below WARNING on a new connection.

    Every message that the driver then stores is a warning or an error. The level cannot be read
    from the stored text, because the text can be translated.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET client_min_messages = warning")
    connection.commit()


def _outcome_unknown() -> ServiceUnavailable:
    return ServiceUnavailable("ledger: commit of the transfer not confirmed", outcome_unknown=True)
