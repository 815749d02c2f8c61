"""Subscribers that never read, and the subscribers next to them."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench.events.clients import EventClients
from bench.events.engines import EngineBench
from bench.events.publisher import Publisher, publishing
from bench.events.rows import Results, Row, percentile
from livebackend.events.channels import user_channel
from tests.support.event_streams import connect, request_stream

_CHANNELS, _SLOW_PER_CHANNEL, _READERS_PER_CHANNEL = 5, 4, 4
_FIRST_ACCOUNT = 201
# Of each channel; the events have nearly the maximum size.
_RATE, _TEXT_BYTES = 40, 1850
_SECONDS_BEFORE, _SECONDS = 5, 16
_MAX_CUT_S, _MAX_GROWTH_MB = 15, 10
_MB = 1_000_000


def measure_slow_subscribers(bench: EngineBench, results: Results) -> None:
    accounts = range(_FIRST_ACCOUNT, _FIRST_ACCOUNT + _CHANNELS)
    channels = [user_channel(account) for account in accounts]
    publisher = Publisher(bench.running.engine, channels, text_bytes=_TEXT_BYTES)
    readers = [account for account in accounts for _ in range(_READERS_PER_CHANNEL)]
    with bench.subscribe(readers) as clients:
        publisher.publish(rate=_RATE, seconds=_SECONDS_BEFORE)
        with _never_reading(bench, accounts):
            started_ns = time.monotonic_ns()
            with publishing(publisher, rate=_RATE, seconds=_SECONDS):
                cut_s, growth_mb = _watch(bench, channels)
                publisher.stop()
        clients.wait_for(len(publisher.times_ns) * _READERS_PER_CHANNEL, 10)
    lost = len(publisher.times_ns) * _READERS_PER_CHANNEL - len(clients.events)
    p99_before = _p99_ms(clients, publisher, 0, started_ns)
    p99_during = _p99_ms(clients, publisher, started_ns, time.monotonic_ns())
    slow_count = _CHANNELS * _SLOW_PER_CHANNEL
    results.add(
        Row(
            f"{slow_count} subscribers never read, {_RATE * _CHANNELS} events/s of 2 kB",
            bench.name,
            f"all cut after {cut_s:.1f} s, memory + {growth_mb:.1f} MB; {len(readers)} others:"
            f" {lost} lost, p99 {p99_during:.0f} ms, before {p99_before:.0f} ms",
            f"cut within {_MAX_CUT_S} s, at most + {_MAX_GROWTH_MB} MB, others lose nothing",
            cut_s <= _MAX_CUT_S and growth_mb <= _MAX_GROWTH_MB and not lost,
        )
    )


@contextmanager
def _never_reading(bench: EngineBench, accounts: Sequence[int]) -> Iterator[None]:
    with ExitStack() as stack:
        for account in accounts:
            for _ in range(_SLOW_PER_CHANNEL):
                stack.enter_context(_connection(bench, account))
        expected = _SLOW_PER_CHANNEL + _READERS_PER_CHANNEL
        for account in accounts:
            deadline = time.monotonic() + 10
            while bench.running.engine.subscribers(user_channel(account)) < expected:
                if time.monotonic() > deadline:
                    raise TimeoutError("the subscriptions were not open after 10 s")
                time.sleep(0.05)
        yield


def _connection(bench: EngineBench, account: int) -> socket.socket:
    response = bench.running.post("/events", ticket="1", token=bench.token(account))
    url = bench.running.reachable_url(response["message"]["url"])
    connection = connect(url, bench.running.ca_file, receive_buffer_bytes=4096)
    request_stream(connection, url)
    return connection


def _watch(bench: EngineBench, channels: Sequence[str]) -> tuple[float, float]:
    """Return the seconds until the slow subscribers are cut, and the growth of memory in MB.

    The events that the engine stores for clients that connect again are a part of the growth.
    """
    started_at, first_bytes = time.monotonic(), bench.running.memory_bytes()
    max_bytes = first_bytes
    while time.monotonic() < started_at + _SECONDS:
        max_bytes = max(max_bytes, bench.running.memory_bytes())
        counts = [bench.running.engine.subscribers(channel) for channel in channels]
        if max(counts) <= _READERS_PER_CHANNEL:
            return time.monotonic() - started_at, (max_bytes - first_bytes) / _MB
        time.sleep(0.1)
    return float("inf"), (max_bytes - first_bytes) / _MB


def _p99_ms(clients: EventClients, publisher: Publisher, first_ns: int, last_ns: int) -> float:
    return percentile(
        [
            (received.time_ns - published_ns) / 1e6
            for received in clients.events
            if first_ns <= (published_ns := publisher.time_ns(received.event)) <= last_ns
        ],
        99,
    )
