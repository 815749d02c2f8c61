"""The one way to the ledger: a thread that posts what is handed in, batch after batch."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from livebackend.core.errors import CommitOutcomeUnknown, LedgerBusy, Unavailable
from livebackend.database.engine import Database, is_connection_lost, require_replication
from livebackend.ledger.posting import post
from livebackend.ledger.transfers import Outcome, Status, Transfer

log = logging.getLogger(__name__)

_BATCH_MAX = 512
_QUEUE_MAX = 2048
# Between two tries while the database is away.
_PAUSE_S = 0.05
# Long enough for a batch in its hands to be posted or given up.
_CLOSE_S = 10


@dataclass(eq=False)
class _Waiting:
    """A transfer whose caller waits for its outcome, until `deadline` by time.monotonic()."""

    transfer: Transfer
    deadline: float
    # A commit of it was under way once: from then on, only the books tell whether it is done.
    commit_sent: bool = False
    outcome: Future[Outcome] = field(default_factory=Future)

    def fail(self, error: Exception) -> None:
        self.outcome.set_exception(_unknown() if self.commit_sent else error)


class Watch(Protocol):
    """Whoever wants to know how busy a writer is."""

    def waiting(self, transfers: int) -> None:
        """So many wait to be taken now."""

    def took(self, transfers: int) -> None:
        """So many were taken at a time."""


class LedgerWriter:
    """Posts transfers in batches, by a thread and a connection of its own.

    There is no timer: while one batch is posted and committed, the next one gathers. Writers with
    different numbers do not wait for each other at a host.
    """

    def __init__(
        self,
        database: Database,
        *,
        number: int,
        batch_max: int = _BATCH_MAX,
        queue_max: int = _QUEUE_MAX,
        watch: Watch | None = None,
    ) -> None:
        self._database = database
        self._number = number
        self._watch = watch
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def queue_length(self) -> int:
        """How many transfers wait to be taken."""
        return len(self._queue)

    @property
    def is_running(self) -> bool:
        """Whether the thread runs; it starts with the first transfer."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_closed(self) -> bool:
        """Whether the writer takes no more transfers."""
        return self._closed

    def submit(self, transfer: Transfer, *, deadline: float) -> Outcome:
        """Posts a transfer; what is returned is committed. `deadline` is by time.monotonic().

        Must be called without a transaction open.
        Raises LedgerBusy if the transfer was not taken in time: no coins moved.
        Raises Unavailable: with too many waiting, and after `close`, nothing moved; with
        `outcome_unknown`, when it was taken and not confirmed in time. The same request id may then
        be posted again.
        """
        waiting = _Waiting(transfer, deadline)
        with self._changed:
            if self._closed or len(self._queue) >= self._queue_max:
                raise Unavailable("the ledger's queue")
            self._start()
            self._queue.append(waiting)
            if self._watch:
                self._watch.waiting(len(self._queue))
            self._changed.notify()
        try:
            return waiting.outcome.result(max(0, deadline - time.monotonic()))
        except TookTooLong:
            return self._give_up(waiting)

    def close(self) -> None:
        """Takes no more, and returns when what was taken is posted."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread:
            self._thread.join(_CLOSE_S)

    def _give_up(self, waiting: _Waiting) -> Outcome:
        with self._changed:
            if waiting in self._queue:
                self._queue.remove(waiting)
                raise LedgerBusy
        if waiting.outcome.done():  # just now
            return waiting.outcome.result()
        raise _unknown()

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="ledger", daemon=True)
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        # Requests that hold all other connections while they wait must not starve the writer. A
        # lock is waited for twice, by the batch and then alone, within a caller's time.
        database = Database(self._database.engine.url, pool_size=1, lock_wait_s=1)
        event.listen(database.engine, "connect", _receive_only_warnings)
        while batch := self._take():
            self._settle(database, batch)
        database.close()

    def _take(self) -> list[_Waiting]:
        """The next batch, as soon as there is one; none, at the end."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            many = min(len(self._queue), self._batch_max)
            batch = [self._queue.popleft() for _ in range(many)]
            if self._watch and batch:
                self._watch.took(len(batch))
                self._watch.waiting(len(self._queue))
            return batch

    def _settle(self, database: Database, batch: Sequence[_Waiting]) -> None:
        """Posts a batch, and then tells every caller what became of his transfer.

        What keeps a batch from being posted is found by posting its transfers one by one, so that
        nobody's request fails another's.
        """
        try:
            outcomes = self._post(database, batch)
        except Unavailable:
            for waiting in batch:
                waiting.fail(Unavailable("the ledger"))
        except Exception as error:  # noqa: BLE001  # no view above this thread would answer for it
            if len(batch) == 1:
                batch[0].fail(error)
                return
            log.warning("a batch of %s is posted one by one: %s", len(batch), type(error).__name__)
            for waiting in batch:
                self._settle_alone(database, waiting)
        else:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.outcome.set_result(outcome)

    def _settle_alone(self, database: Database, waiting: _Waiting) -> None:
        if time.monotonic() < waiting.deadline:
            self._settle(database, [waiting])
        else:  # He has gone; the next ones may still be there.
            waiting.fail(Unavailable("the ledger"))

    def _post(self, database: Database, batch: Sequence[_Waiting]) -> list[Outcome]:
        """Commit a batch, and repeat it with the same request ids until that is confirmed.

        A COMMIT is not confirmed when the connection is lost, or when PostgreSQL sends a warning:
        it commits without the standby when pg_cancel_backend ends the wait.
        Raises Unavailable after the last deadline of the batch.
        """
        until = max(waiting.deadline for waiting in batch)
        while True:
            try:
                outcomes, warnings = database.run(partial(self._attempt, batch=batch))
            except (CommitOutcomeUnknown, DBAPIError, NoConnection) as error:
                if not is_connection_lost(error):
                    raise
                log.warning("the ledger lost its connection, with %s in hand", len(batch))
            else:
                if not warnings:
                    return outcomes
                warning = warnings[0].partition("\n")[0]
                log.warning("ledger: %s transfers posted again: %s", len(batch), warning)
            if time.monotonic() > until:
                raise Unavailable("the ledger")
            time.sleep(_PAUSE_S)

    def _attempt(
        self, connection: Connection, batch: Sequence[_Waiting]
    ) -> tuple[list[Outcome], list[str]]:
        """Post a batch; return its outcomes, and a list for the COMMIT's warnings."""
        driver: Any = connection.connection.driver_connection
        outcomes = post(connection, [waiting.transfer for waiting in batch], self._number)
        statuses = {outcome.status for outcome in outcomes}
        driver.notices.clear()
        if Status.DONE not in statuses:
            if Status.REPLAYED not in statuses:  # a refusal acknowledges no transfer
                connection.rollback()  # removes the empty slots that post() has inserted
                return outcomes, driver.notices
            # The COMMIT waits without those slots, and without the locks. After a rollback(),
            # SQLAlchemy refuses further statements.
            connection.exec_driver_sql("ROLLBACK AND CHAIN")
            require_replication(connection)
        for waiting in batch:
            waiting.commit_sent = True
        return outcomes, driver.notices


def _receive_only_warnings(connection: Any, _record: object) -> None:
    """Have PostgreSQL send no notice below WARNING; their texts depend on lc_messages."""
    with connection.cursor() as cursor:
        cursor.execute("SET client_min_messages = warning")
    connection.commit()


def _unknown() -> Unavailable:
    return Unavailable("the ledger", outcome_unknown=True)
