"""What is counted and timed, for Prometheus; all server processes on a machine add up.

No label ever bears a phone, a key or a token: each has a few values that are known beforehand.
"""

import logging
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

log = logging.getLogger(__name__)

G = TypeVar("G")

# The methods of gateways that call the outside service.
OUTSIDE_CALLS = {
    *("send", "create", "knows", "disable", "on_air"),
    *("place", "query", "close", "refund", "bill"),
}
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 10)
_TRANSFERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The numbers of one server process. In `registry` stand its own, without the others'."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = self._histogram(
            "call_seconds",
            "Calls of the API, by operation and result code.",
            "operation",
            "result",
            buckets=_SECONDS,
        )
        self._errors = Counter(
            "livebackend_call_errors",
            "Calls that could not be served, by operation and HTTP status.",
            ["operation", "status"],
            registry=self.registry,
        )
        self._provider_calls = self._histogram(
            "provider_call_seconds",
            "Calls of outside services: messages, streams and payments.",
            "provider",
            "call",
            "outcome",
            buckets=_SECONDS,
        )
        self._batches = self._histogram(
            "ledger_batch_transfers",
            "Transfers that the ledger's writer took at a time.",
            buckets=_TRANSFERS,
        )
        self._waiting = self._gauge("ledger_waiting", "Transfers that wait for the ledger.")
        self._in_use = self._gauge(
            "database_connections_in_use", "Connections of the pool that calls hold."
        )
        self._connections = self._gauge("database_connections", "Connections the pool may have.")
        self._gauge("workers", "Server processes that run.").set(1)

    def called(self, *, operation: str, result: str, status: int, seconds: float) -> None:
        """Counts a call of the API."""
        self._calls.labels(operation, result).observe(seconds)
        if status >= 500:
            self._errors.labels(operation, status).inc()

    def waiting(self, transfers: int) -> None:
        """So many transfers wait for the ledger's writer now."""
        self._waiting.set(transfers)

    def took(self, transfers: int) -> None:
        """The ledger's writer took so many at a time."""
        self._batches.observe(transfers)

    def watch_pool(self, engine: Engine, *, size: int) -> None:
        """Follows the connections of an engine's pool."""
        self._connections.set(size)

        # Asked of the pool, and not counted here: a connection that could not be made comes back
        # without ever having gone. When one comes back, the pool says so before it has it.
        def holds(fewer: int) -> None:
            pool: Any = engine.pool  # another one after each dispose()
            self._in_use.set(max(0, pool.checkedout() - fewer))

        event.listen(engine, "checkout", lambda *_: holds(0))
        event.listen(engine, "checkin", lambda *_: holds(1))

    def timed(self, provider: str, gateway: G) -> G:
        """Return the gateway with its calls of the outside service counted and timed."""

        def observe(call: str, outcome: str, seconds: float) -> None:
            self._provider_calls.labels(provider, call, outcome).observe(seconds)

        return cast(G, TimedGateway(gateway, observe))

    def _histogram(
        self, name: str, says: str, *labels: str, buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(
            f"livebackend_{name}", says, labels, registry=self.registry, buckets=buckets
        )

    def _gauge(self, name: str, says: str) -> Gauge:
        # Of processes that run: what a dead one held is free.
        return Gauge(
            f"livebackend_{name}", says, registry=self.registry, multiprocess_mode="livesum"
        )


class TimedGateway:
    """Decorates a gateway: tells `observe` about each call of the outside service.

    `observe` gets the method's name, "done" or "failed", and the seconds.
    """

    def __init__(self, gateway: object, observe: Callable[[str, str, float], None]) -> None:
        self._gateway = gateway
        self._observe = observe

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._gateway, name)
        if name not in OUTSIDE_CALLS:
            return attribute

        @wraps(attribute)
        def timed(*args: Any, **options: Any) -> Any:
            start, outcome = time.perf_counter(), "failed"
            try:
                response = attribute(*args, **options)
                outcome = "done"
            finally:
                self._observe(name, outcome, time.perf_counter() - start)
            return response

        return timed


class LiveRoomsCollector(Collector):
    """How many are live, counted when it is asked for; nothing while the database is away."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def describe(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("livebackend_live_rooms", "Rooms that are live.")

    def collect(self) -> Iterator[Metric]:
        try:
            live = self._count()
        except (DBAPIError, NoConnection) as error:
            log.warning("rooms are not counted: %s", type(error).__name__)
            return
        yield GaugeMetricFamily("livebackend_live_rooms", "Rooms that are live.", value=live)
