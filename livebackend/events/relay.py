"""The relay: the thread that numbers and publishes the events of the outbox."""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from livebackend.core.errors import CommitOutcomeUnknown
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.database.engine import Database
from livebackend.database.leases import Lease
from livebackend.events.numbering import NO_BATCH, has_no_events, next_batch
from livebackend.events.outbox_limits import OutboxLimits, drop_excess, drop_expired_batch
from livebackend.events.publisher import Publisher, PublisherMetrics
from livebackend.gateways.events.protocol import (
    CALL_TIMEOUT_S,
    ChannelEvent,
    EventEngine,
    EventsFailed,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

# Pause between two queries of an empty outbox. The query is cheaper than a NOTIFY in each
# transaction, which would make all commits wait for each other.
_POLL_INTERVAL_S = 0.05
# Pause after a batch of many events: larger batches cost less for each event.
_BATCH_INTERVAL_S = 0.1
_MANY_EVENTS = 20
# Pause after an error of the engine or the database, and between two attempts to get the lease.
_RETRY_PAUSE_S = 1.0
_LEASE_TTL_S = 5.0
# Seconds between two renewals of the lease, and between two checks of the limits.
_CHECK_INTERVAL_S = 1.0
# A transaction with many events can take seconds while requests use all CPUs. If it ended earlier,
# the next one would have as many events, and the relay would never catch up.
_DATABASE_TIMEOUT_S = 15.0
# A round takes less than this.
_MAX_ROUND_S = 60.0
# Seconds that `close` waits for the end of a round.
_CLOSE_TIMEOUT_S = 6.0
# Seconds of failed calls after which another process publishes: it can have another engine.
_MAX_FAILURE_S = 5.0


class RelayMetrics(PublisherMetrics, Protocol):
    """Receives the metrics of a relay."""

    def set_relay_leader(self, *, is_leader: bool) -> None:
        """Record whether this process is the one that publishes events."""

    def count_dropped(self, events: Mapping[str, int]) -> None:
        """Count dropped events by type; a row of the outbox counts once."""


class _LeaseLost(Exception):
    """Another process holds the lease."""


class Relay:
    """Numbers events per channel and publishes them, in one process at a time.

    Every event is published at least once. If the process ends, or the engine does not respond, an
    event can be published again, with the same number and the same content.
    """

    def __init__(
        self,
        database: Database,
        engine: EventEngine,
        *,
        holder: str,
        limits: OutboxLimits,
        metrics: RelayMetrics,
        lease_ttl_s: float = _LEASE_TTL_S,
    ) -> None:
        self._url = database.engine.url
        self._publisher = Publisher(engine, metrics)
        self._limits = limits
        self._metrics = metrics
        self._lease = Lease("events", holder, ttl_s=lease_ttl_s)
        # Times are values of time.monotonic().
        self._lease_expires_at = self._lease_renewed_at = self._limits_checked_at = 0.0
        # The batch that is being published, or was published last, and its events that are not
        # published yet.
        self._batch = NO_BATCH
        self._unpublished: list[ChannelEvent] = []
        # Whether no event waited for its number or its publication.
        self._is_idle = False
        self._failing_since: float | None = None
        self._is_failing = False
        self.thread = SupervisedThread("events", self._run, max_work_s=_MAX_ROUND_S)

    def start(self) -> None:
        """Start the thread. Call this method once."""
        self.thread.start()

    def close(self) -> None:
        """Stop the thread and release the lease. Events that remain are published later."""
        self.thread.close(_CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        # A pool of its own: requests can hold all connections of the shared pool.
        database = Database(self._url, pool_size=1, call_timeout_s=_DATABASE_TIMEOUT_S)
        wait_s = 0.0
        try:
            while not self.thread.closing.wait(wait_s):
                with self.thread.work():
                    wait_s = self._run_round(database)
        finally:
            self._release_lease(database)
            database.close()

    def _run_round(self, database: Database) -> float:
        """Publish events for about a second; return the seconds until the next round."""
        try:
            self._renew_lease(database)
            self._drop_excess(database)
            pause_s = self._publish_batches(database)
            self._publisher.close_again()
        except _LeaseLost:
            self._forget()
        except EventsFailed as error:
            self._report_failure("events: the engine does not accept events: %s", error)
            return self._pause_after_failure(database)
        except (SQLAlchemyError, CommitOutcomeUnknown) as error:
            self._forget()
            self._report_failure("events: database error: %s", type(error).__name__)
        else:
            return pause_s
        return _RETRY_PAUSE_S

    def _publish_batches(self, database: Database) -> float:
        round_end = time.monotonic() + _CHECK_INTERVAL_S
        while time.monotonic() < round_end and not self.thread.closing.is_set():
            if not self._unpublished and not self._load_batch(database):
                self._report_recovery()
                return _POLL_INTERVAL_S
            if not self._publish(until=round_end):
                return 0.0
            self._report_recovery()
            if self._batch.is_last:
                has_many_events = len(self._batch.events) >= _MANY_EVENTS
                return _BATCH_INTERVAL_S if has_many_events else _POLL_INTERVAL_S
        return 0.0

    def _load_batch(self, database: Database) -> bool:
        """Load the stored batch, or number the next events; return whether there are any."""
        if self._is_idle and database.run_autocommit(has_no_events):
            return False
        work = partial(next_batch, published_id=self._batch.id)
        self._batch = database.run(self._with_lease(work))
        self._unpublished = list(self._batch.events)
        self._is_idle = self._batch.is_last and not self._batch.events
        return True

    def _publish(self, *, until: float) -> bool:
        """Publish the unpublished events until a time; return whether all are published."""
        while self._unpublished:
            now = time.monotonic()
            if now > until or now + CALL_TIMEOUT_S > self._lease_expires_at:
                return False
            self._unpublished = self._publisher.publish_some(self._unpublished)
        return True

    def _pause_after_failure(self, database: Database) -> float:
        """Return the pause after a failed call; release the lease after several."""
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        if time.monotonic() < self._failing_since + _MAX_FAILURE_S:
            return _RETRY_PAUSE_S
        self._failing_since = None
        self._release_lease(database)
        return self._lease.ttl_s

    def _drop_excess(self, database: Database) -> None:
        now = time.monotonic()
        if now < self._limits_checked_at + _CHECK_INTERVAL_S:
            return
        self._limits_checked_at = now
        dropped_events = database.run(
            self._with_lease(partial(drop_expired_batch, limits=self._limits))
        )
        if dropped_events:
            self._unpublished = []
        work = self._with_lease(partial(drop_excess, limits=self._limits))
        while time.monotonic() < now + _CHECK_INTERVAL_S:
            dropped_rows = database.run(work)
            dropped_events += dropped_rows
            if not dropped_rows:
                break
        if dropped_events:
            self._metrics.count_dropped(dropped_events)
            log.warning(
                "events: %s events dropped, the outbox exceeds its limits",
                dropped_events.total(),
            )

    def _renew_lease(self, database: Database) -> None:
        """Renew the lease if it is due. Raises _LeaseLost."""
        if time.monotonic() > self._lease_renewed_at + _CHECK_INTERVAL_S:
            database.run(self._with_lease(lambda _: None))
        self._metrics.set_relay_leader(is_leader=True)

    def _with_lease(self, work: Callable[[Connection], T]) -> Callable[[Connection], T]:
        """Return a function that renews the lease, then calls `work` in the same transaction.

        The row of the lease stays locked until the commit, so no other process numbers events.
        """

        def renew_and_work(connection: Connection) -> T:
            started_at = time.monotonic()
            if self._lease.acquire(connection):
                raise _LeaseLost
            self._lease_renewed_at = started_at
            self._lease_expires_at = started_at + self._lease.ttl_s
            return work(connection)

        return renew_and_work

    def _release_lease(self, database: Database) -> None:
        self._forget()
        try:
            database.run(self._lease.release)
        except (SQLAlchemyError, CommitOutcomeUnknown) as error:
            log.warning(
                "events: release of the lease failed, the lease will expire: %s",
                type(error).__name__,
            )

    def _forget(self) -> None:
        """Forget the lease and the batch, which another process can have published."""
        self._lease_expires_at = self._lease_renewed_at = 0.0
        self._batch, self._unpublished = NO_BATCH, []
        self._is_idle = False
        self._metrics.set_relay_leader(is_leader=False)

    def _report_failure(self, message: str, detail: object) -> None:
        if not self._is_failing:
            log.warning(message, detail)
        self._is_failing = True

    def _report_recovery(self) -> None:
        if self._is_failing:
            log.info("events: published again")
        self._is_failing = False
        self._failing_since = None
