"""Memory and CPU time of an engine for its subscribers, and its most deliveries per second."""

import time
from collections.abc import Callable

from bench.events.clients import EventClients
from bench.events.engines import EVENT_SERVER, EngineBench
from bench.events.publisher import Publisher
from bench.events.rows import Capacity, Results, Row, percentile
from livebackend.events.channels import user_channel

_SUBSCRIBERS_PER_CHANNEL = 100
# The event server accepts 500 connections.
_SUBSCRIBERS, _SUBSCRIBERS_EVENT_SERVER = 2000, 400
# Longer than the interval of the pings.
_IDLE_S = 16
_RATE, _RATED_S, _SATURATED_S = 10, 10, 6
# Events of each channel in one call of the engine, when as many as possible are published.
_EVENTS_AT_ONCE = 5
# An event then has about 215 bytes.
_TEXT_BYTES = 80


def measure_capacity(bench: EngineBench, results: Results) -> None:
    """Open many streams; measure them idle, at 10 events/s, and with as many as possible."""
    is_event_server = bench.name == EVENT_SERVER
    subscribers = _SUBSCRIBERS_EVENT_SERVER if is_event_server else _SUBSCRIBERS
    accounts = range(1, 1 + subscribers // _SUBSCRIBERS_PER_CHANNEL)
    account_ids = [accounts[index % len(accounts)] for index in range(subscribers)]
    channels = [user_channel(account_id) for account_id in accounts]
    publisher = Publisher(bench.running.engine, channels, text_bytes=_TEXT_BYTES)
    with bench.subscribe(accounts):  # warms up the engine
        time.sleep(1)
    idle_mb = bench.engine_memory_mb()
    with bench.subscribe(account_ids) as clients:
        time.sleep(1)
        subscribed_mb = bench.engine_memory_mb()
        idle_cpu_ms = _cpu_ms(bench, lambda: time.sleep(_IDLE_S))
        rated_cpu_ms = _cpu_ms(bench, lambda: _publish_at_rate(publisher))
        saturated_from_ns = time.monotonic_ns()
        saturated_cpu_ms = _cpu_ms(
            bench, lambda: _saturate(publisher, clients, _EVENTS_AT_ONCE * subscribers)
        )
    delays_ms = [
        (received.time_ns - publisher.time_ns(received.event)) / 1e6
        for received in clients.events
        if received.time_ns < saturated_from_ns
    ]
    saturated = [r.time_ns for r in clients.events if r.time_ns >= saturated_from_ns]
    saturated_s = (max(saturated) - saturated_from_ns) / 1e9
    results.add_capacity(
        Capacity(
            bench.name,
            subscribers,
            idle_mb,
            1024 * (subscribed_mb - idle_mb) / subscribers,
            1000 * idle_cpu_ms / subscribers / _IDLE_S,
            1000 * rated_cpu_ms / max(1, len(delays_ms)),
            percentile(delays_ms, 99),
            len(saturated) / saturated_s,
            saturated_cpu_ms / 1000 / saturated_s,
        )
    )
    statistics = clients.statistics
    results.add(
        Row(
            "as many deliveries as possible",
            bench.name,
            f"{statistics['gaps']} events lost or out of order, {statistics['ended']} connections"
            f" ended; the clients used {clients.cpu_us_per_event:.1f} µs of CPU time for an event,"
            f" so their limit is {1e6 / clients.cpu_us_per_event:.0f} deliveries/s",
        )
    )


def _publish_at_rate(publisher: Publisher) -> None:
    publisher.publish(rate=_RATE, seconds=_RATED_S)
    time.sleep(0.5)


def _saturate(publisher: Publisher, clients: EventClients, max_waiting: int) -> None:
    """Publish so that deliveries always wait, but few: with Redis, publishing is faster."""
    deadline = time.monotonic() + _SATURATED_S
    while time.monotonic() < deadline:
        deliveries = len(publisher.times_ns) * _SUBSCRIBERS_PER_CHANNEL
        if deliveries - clients.count() <= max_waiting:
            publisher.publish_now(_EVENTS_AT_ONCE)
        else:
            time.sleep(0.002)


def _cpu_ms(bench: EngineBench, work: Callable[[], None]) -> float:
    before_ms = bench.engine_cpu_ms()
    work()
    return bench.engine_cpu_ms() - before_ms
