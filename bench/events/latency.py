"""The time from the COMMIT of an event to the client, through all parts of the system."""

import time
from collections.abc import Sequence

from sqlalchemy import text

from bench.events.engines import EngineBench, latencies_ms, missing_events
from bench.events.rows import Results, Row, percentile

_SUBSCRIBERS = 1000
_FIRST_ACCOUNT = 1001
_RATE = 10
_SECONDS, _ONE_CHANNEL_SECONDS = 30, 15
_HOST = 10_001
_LIVE_EVENTS, _LIVE_RATE = 5, 0.25
_MAX_P50_MS, _MAX_P99_MS = 100, 500
_CATCH_UP_S = 30

_INSERT_FRIENDS = text(
    """
    WITH pairs AS (SELECT CAST(:host AS int) AS a, n AS b
        FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n)
    INSERT INTO friendships (account_id, friend_id)
    SELECT a, b FROM pairs UNION ALL SELECT b, a FROM pairs
    """
)
_INSERT_ROOM = text(
    """
    INSERT INTO rooms
        (account_id, title, state, stream_key, publish_key, stream, play_urls, started_at)
    VALUES (:host, 'room', 'open', 'bench', 'bench', '{}',
        '{"rtmp": "rtmp://live.example/livebackend/0123456789abcdef", "hls": null, "hdl": null}',
        now())
    """
)


def measure_latency(bench: EngineBench, results: Results) -> None:
    accounts = range(_FIRST_ACCOUNT, _FIRST_ACCOUNT + _SUBSCRIBERS)
    with bench.database.engine.begin() as connection:
        values = {"host": _HOST, "first": accounts[0], "last": accounts[-1]}
        connection.execute(_INSERT_FRIENDS, values)
        connection.execute(_INSERT_ROOM, {"host": _HOST})
    _measure_channels(bench, results, accounts)
    _measure_one_channel(bench, results)


def _measure_channels(bench: EngineBench, results: Results, accounts: Sequence[int]) -> None:
    server_ms, engine_ms = bench.server_cpu_ms(), bench.engine_cpu_ms()
    with bench.subscribe(accounts) as clients:
        server_ms = (bench.server_cpu_ms() - server_ms) / len(accounts)
        engine_ms = (bench.engine_cpu_ms() - engine_ms) / len(accounts)
        result = f"livebackend {server_ms:.1f} ms, nginx {engine_ms:.1f} ms"
        results.add(Row("CPU time of a ticket and a connection", bench.name, result))
        commit_times = bench.write_events(accounts, rate=_RATE, seconds=_SECONDS)
        bench.wait_until_published()
        time.sleep(1)
        live_times = bench.write_events(
            [_HOST],
            rate=_LIVE_RATE,
            seconds=_LIVE_EVENTS / _LIVE_RATE,
            is_live=True,
            name="live",
        )
        bench.wait_until_published()
        clients.wait_for(len(commit_times) + len(live_times) * len(accounts), _CATCH_UP_S)
    expected = {
        account: len(live_times) + (index < len(commit_times))
        for index, account in enumerate(accounts)
    }
    lost = missing_events(clients, accounts, expected)
    _add(
        results,
        bench,
        f"COMMIT to client, {len(accounts)} subscribers of a channel each, {_RATE} events/s",
        latencies_ms(clients, commit_times),
        lost,
        is_bounded=True,
    )
    _add(
        results,
        bench,
        f"COMMIT to client, a friend of {len(accounts)} subscribers goes live",
        latencies_ms(clients, live_times),
        lost,
        is_bounded=False,
    )


def _measure_one_channel(bench: EngineBench, results: Results) -> None:
    account_ids = [_FIRST_ACCOUNT + _SUBSCRIBERS] * _SUBSCRIBERS
    with bench.subscribe(account_ids) as clients:
        commit_times = bench.write_events(account_ids[:1], rate=_RATE, seconds=_ONE_CHANNEL_SECONDS)
        bench.wait_until_published()
        clients.wait_for(len(commit_times) * len(account_ids), _CATCH_UP_S)
    _add(
        results,
        bench,
        f"COMMIT to client, {_SUBSCRIBERS} subscribers of one channel, {_RATE} events/s",
        latencies_ms(clients, commit_times),
        missing_events(clients, account_ids, {account_ids[0]: len(commit_times)}),
        is_bounded=True,
    )


def _add(
    results: Results,
    bench: EngineBench,
    measurement: str,
    delays_ms: list[float],
    lost: int,
    *,
    is_bounded: bool,
) -> None:
    p50_ms, p99_ms = percentile(delays_ms, 50), percentile(delays_ms, 99)
    is_met = p50_ms < _MAX_P50_MS and p99_ms < _MAX_P99_MS and not lost
    results.add(
        Row(
            measurement,
            bench.name,
            f"p50 {p50_ms:.0f} ms, p99 {p99_ms:.0f} ms, longest {max(delays_ms, default=0):.0f} ms;"
            f" {len(delays_ms)} deliveries, {lost} lost",
            f"p50 < {_MAX_P50_MS} ms, p99 < {_MAX_P99_MS} ms" if is_bounded else "0 lost",
            is_met if is_bounded else not lost,
        )
    )
