"""Prometheus metrics of the server.

Every label has a small, fixed set of values. No label contains a phone, a key or a token.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.core.running_work import RunningWork
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.monitoring.log_queue import dropped_log_records

log = logging.getLogger(__name__)

GatewayT = TypeVar("GatewayT")

# The gateway methods that call the provider. The metrics count and time only these methods.
GATEWAY_CALLS = {
    *("send", "create", "exists", "disable", "live_publishers"),
    *("place", "query", "close", "refund", "bill"),
    *("publish", "close_channel", "subscribers"),
}
_SECONDS_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 10)
_TRANSFERS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Prometheus metrics of one worker process, in its own `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._histogram(
            "request_duration_seconds",
            "API requests, by operation and result code.",
            "operation",
            "result",
            buckets=_SECONDS_BUCKETS,
        )
        self._errors = Counter(
            "livebackend_request_errors",
            "API requests that failed with an HTTP status of 500 or more.",
            ["operation", "status"],
            registry=self.registry,
        )
        self._gateway_requests = self._histogram(
            "gateway_request_duration_seconds",
            "Calls to SMS, stream and payment providers, and to the event engine.",
            "gateway",
            "method",
            "outcome",
            buckets=_SECONDS_BUCKETS,
        )
        self._batch_sizes = self._histogram(
            "ledger_batch_transfers",
            "Transfers in one batch of the ledger batch writer.",
            buckets=_TRANSFERS_BUCKETS,
        )
        self._queue_length = self._gauge(
            "ledger_queue_length", "Transfers in the queue of the ledger batch writer."
        )
        self._relay_leader = self._gauge(
            "events_relay_leader", "Workers that publish live events: 1, or 0 if none does."
        )
        self._published_events = self._event_counter(
            "published", "Live events that were published to their channels."
        )
        self._dropped_events = self._event_counter(
            "dropped", "Live events that were dropped because the outbox exceeded its limits."
        )
        self._event_connections = Counter(
            "livebackend_events_connections",
            "New connections of event streams, by the result of the check of their tickets.",
            ["result"],
            registry=self.registry,
        )
        self._in_use = self._gauge("database_connections_in_use", "Database connections in use.")
        self._pool_size = self._gauge(
            "database_connections", "Maximum size of the database connection pool."
        )
        self._gauge("worker_processes", "Running worker processes.").set(1)
        self._thread_restarts = Counter(
            "livebackend_thread_restarts",
            "Restarts of background threads after an unexpected error.",
            ["thread"],
            registry=self.registry,
        )
        self._failing_threads = Gauge(
            "livebackend_failing_threads",
            "Background threads that failed or are blocked.",
            ["thread"],
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._longest_work = Gauge(
            "livebackend_longest_work_seconds",
            "Duration of the oldest request and of the oldest call to a provider that have not"
            " ended.",
            ["work"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._dropped_log_records = Counter(
            "livebackend_log_records_dropped",
            "Log records that were not written: the output is blocked or full.",
            registry=self.registry,
        )
        self._engine: Engine | None = None
        self._threads: Sequence[SupervisedThread] = ()
        self._work: Mapping[str, RunningWork] = {}
        self._counted: dict[str, int] = {}

    def observe_request(self, *, operation: str, result: str, status: int, seconds: float) -> None:
        """Record an API request."""
        self._requests.labels(operation, result).observe(seconds)
        if status >= 500:
            self._errors.labels(operation, status).inc()

    def set_queue_length(self, transfers: int) -> None:
        """Set the queue length of the ledger batch writer."""
        self._queue_length.set(transfers)

    def observe_batch(self, transfers: int) -> None:
        """Record the size of a batch of the ledger batch writer."""
        self._batch_sizes.observe(transfers)

    def set_relay_leader(self, *, is_leader: bool) -> None:
        """Record whether this process publishes live events."""
        self._relay_leader.set(is_leader)

    def count_published(self, events: Mapping[str, int]) -> None:
        """Count published live events by type."""
        for event_type, count in events.items():
            self._published_events.labels(event_type).inc(count)

    def count_dropped(self, events: Mapping[str, int]) -> None:
        """Count dropped live events by type; a row of the outbox counts once."""
        for event_type, count in events.items():
            self._dropped_events.labels(event_type).inc(count)

    def count_event_connection(self, result: str) -> None:
        """Count a new connection of an event stream.

        `result` is accepted, reset, revoked or invalid_ticket.
        """
        self._event_connections.labels(result).inc()

    def observe_pool(self, engine: Engine, *, size: int) -> None:
        """Report the maximum size of an engine's pool, and its connections in use on `refresh`."""
        self._pool_size.set(size)
        self._engine = engine

    def observe_threads(
        self, threads: Sequence[SupervisedThread], work: Mapping[str, RunningWork]
    ) -> None:
        """Report background threads and running work, by name, on `refresh`."""
        self._threads, self._work = threads, work
        self.refresh()

    def refresh(self) -> None:
        """Update the metrics that are not counted with each event.

        These are the metrics of the pool, threads, running work and the log. Call this method in
        one thread only.
        """
        if self._engine:
            pool: Any = self._engine.pool  # dispose() replaces the pool
            self._in_use.set(pool.checkedout())
        failing = dict.fromkeys((thread.name for thread in self._threads), 0)
        restarts = dict(failing)
        for thread in self._threads:
            failing[thread.name] += thread.problem is not None
            restarts[thread.name] += thread.failures
        for name, count in failing.items():
            self._failing_threads.labels(name).set(count)
            self._count_up_to(self._thread_restarts.labels(name), f"thread {name}", restarts[name])
        for name, work in self._work.items():
            self._longest_work.labels(name).set(work.longest_s)
        self._count_up_to(self._dropped_log_records, "log records", dropped_log_records())

    def _count_up_to(self, counter: Counter, name: str, total: int) -> None:
        counter.inc(total - self._counted.get(name, 0))
        self._counted[name] = total

    def instrument(self, name: str, gateway: GatewayT) -> GatewayT:
        """Return the gateway in a wrapper that counts and times its calls to the provider."""

        def observe(method: str, outcome: str, seconds: float) -> None:
            self._gateway_requests.labels(name, method, outcome).observe(seconds)

        return cast(GatewayT, TimedGateway(gateway, observe))

    def _histogram(
        self, name: str, description: str, *labels: str, buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(
            f"livebackend_{name}", description, labels, registry=self.registry, buckets=buckets
        )

    def _event_counter(self, name: str, description: str) -> Counter:
        return Counter(f"livebackend_events_{name}", description, ["type"], registry=self.registry)

    def _gauge(self, name: str, description: str) -> Gauge:
        # `livesum` adds the values of running processes only: an ended process has no connections.
        return Gauge(
            f"livebackend_{name}", description, registry=self.registry, multiprocess_mode="livesum"
        )


class TimedGateway:
    """Wraps a gateway and reports each call to the provider to `observe`.

    `observe` gets the method name, "done" or "failed", and the duration in seconds.
    """

    def __init__(self, gateway: object, observe: Callable[[str, str, float], None]) -> None:
        self._gateway = gateway
        self._observe = observe

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._gateway, name)
        if name not in GATEWAY_CALLS:
            return attribute

        @wraps(attribute)
        def call_and_observe(*args: Any, **options: Any) -> Any:
            start, outcome = time.perf_counter(), "failed"
            try:
                response = attribute(*args, **options)
                outcome = "done"
            finally:
                self._observe(name, outcome, time.perf_counter() - start)
            return response

        return call_and_observe


class LiveRoomsCollector(Collector):
    """Collects the number of live rooms, or nothing if the database is unavailable."""

    def __init__(self, count_rooms: Callable[[], int]) -> None:
        self._count_rooms = count_rooms

    def describe(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("livebackend_live_rooms", "Live rooms.")

    def collect(self) -> Iterator[Metric]:
        try:
            room_count = self._count_rooms()
        except (DBAPIError, PoolTimeout) as error:
            log.warning(
                "metrics: count of live rooms failed, database unavailable: %s",
                type(error).__name__,
            )
            return
        yield GaugeMetricFamily("livebackend_live_rooms", "Live rooms.", value=room_count)


class OutboxCollector(Collector):
    """Collects the size of the outbox, or nothing if the database is unavailable.

    `read_size` returns the number of rows, and the age of the oldest row in seconds.
    """

    def __init__(self, read_size: Callable[[], tuple[int, float]]) -> None:
        self._read_size = read_size

    def describe(self) -> Iterator[Metric]:
        yield from self._metrics()

    def collect(self) -> Iterator[Metric]:
        try:
            size = self._read_size()
        except (DBAPIError, PoolTimeout) as error:
            log.warning(
                "metrics: size of the outbox unknown, database unavailable: %s",
                type(error).__name__,
            )
            return
        yield from self._metrics(*size)

    def _metrics(self, rows: int | None = None, oldest_s: float | None = None) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "livebackend_events_outbox_rows",
            "Rows of live events that are not published yet; a row can have several receivers.",
            value=rows,
        )
        yield GaugeMetricFamily(
            "livebackend_events_outbox_oldest_seconds",
            "Age of the oldest live event that is not published yet.",
            value=oldest_s,
        )


class DiskSpaceCollector(Collector):
    """Collects the free disk space of the data folder, if it can be read."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def describe(self) -> Iterator[Metric]:
        yield self._metric()

    def collect(self) -> Iterator[Metric]:
        try:
            free_bytes = shutil.disk_usage(self._data_dir).free
        except OSError as error:
            log.warning("metrics: free disk space of data.dir cannot be read: %s", error.strerror)
            return
        yield self._metric(free_bytes)

    def _metric(self, value: int | None = None) -> Metric:
        return GaugeMetricFamily(
            "livebackend_data_disk_free_bytes", "Free disk space of `data.dir`.", value=value
        )
