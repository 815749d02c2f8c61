"""Prometheus metrics of the event engine, queried when Prometheus reads the metrics."""

import logging
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from livebackend.gateways.events.protocol import EngineStatus, EventsFailed

log = logging.getLogger(__name__)

# The metrics by the names of the fields of EngineStatus.
_METRICS = {
    "subscribers": (
        "livebackend_events_subscribers",
        "Open event streams of the engine of this machine.",
    ),
    "channels": (
        "livebackend_events_channels",
        "Channels with event streams or stored events.",
    ),
    "stored_events": (
        "livebackend_events_stored",
        "Live events that the engine stores for clients that connect again.",
    ),
    "memory_bytes": (
        "livebackend_events_engine_memory_bytes",
        "Memory of the event engine for channels and stored events.",
    ),
    "max_memory_bytes": (
        "livebackend_events_engine_max_memory_bytes",
        "Maximum of this memory.",
    ),
}


class EventEngineCollector(Collector):
    """Collects the status of the event engine.

    `read_status` raises EventsFailed within 2 s if the engine is unavailable.
    """

    def __init__(self, read_status: Callable[[], EngineStatus]) -> None:
        self._read_status = read_status
        self._is_up = True

    def describe(self) -> Iterator[Metric]:
        yield _up(is_up=True)
        yield from _status(EngineStatus(0, 0, 0, 0, 0))

    def collect(self) -> Iterator[Metric]:
        try:
            status = self._read_status()
        except EventsFailed as error:
            if self._is_up:
                log.warning("metrics: the event engine does not report its status: %s", error)
            self._is_up = False
            yield _up(is_up=False)
            return
        self._is_up = True
        yield _up(is_up=True)
        yield from _status(status)


def _up(*, is_up: bool) -> Metric:
    return GaugeMetricFamily(
        "livebackend_events_engine_up",
        "1 if the event engine responds, 0 if it does not.",
        value=int(is_up),
    )


def _status(status: EngineStatus) -> Iterator[Metric]:
    for field, value in status._asdict().items():
        name, description = _METRICS[field]
        yield GaugeMetricFamily(name, description, value=value)
