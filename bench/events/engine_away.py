"""Requests while the engine is away: two servers under the same load, one of them without engine.

Each has a PostgreSQL of its own, so that its CPU time can be measured. In each round, both servers
get the same requests, one server after the other; the next round begins with the other server.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from sqlalchemy import text

from bench.events.clients import EventClients
from bench.events.engines import NCHAN, USER_COUNT, EngineBench
from bench.events.rows import Results, Row
from bench.events.side import Side, start_side
from bench.fill_database import phone_number
from bench.load import Call, run_in_order
from livebackend.events.channels import user_channel
from livebackend_client import Client

UP, AWAY = "up", "away"
_CLIENTS = 4
# Requests of a round, by operation.
_COUNTS = {"friend request": 40, "gift": 80, "live and leave": 20}
_MAX_SECONDS_OF_LOAD = 60
# Users with open event streams: they receive the gifts and the friend requests, and each host is a
# friend of two of them.
_SUBSCRIBERS = range(1, 21)
_HOSTS = range(101, 121)
_FIRST_APPLICANT = 1001
_PAUSE_S = 0.5
# The key of the CPU time of the whole measurement, with the relay and with the pauses.
_ALL = "all"
_CATCH_UP_TIMEOUT_S = 300
_MAX_RATIO = 1.05

_INSERT_FRIENDS = text(
    """
    WITH pairs AS (SELECT host AS a, 1 + (host + n) % 20 AS b
        FROM generate_series(101, 120) AS host, generate_series(0, 1) AS n)
    INSERT INTO friendships (account_id, friend_id)
    SELECT a, b FROM pairs UNION ALL SELECT b, a FROM pairs
    """
)
_CHANNEL_SEQ = text("SELECT seq FROM event_channels WHERE name = :name")
_OUTBOX_SIZE = text("SELECT count(*) FROM outbox_events")


@dataclass
class _Side(Side):
    """A server with its engine, and what was measured at it."""

    # Percentiles of each round, and CPU time and requests of all rounds, by operation.
    p50_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    p99_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_ms: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    requests: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: list[str] = field(default_factory=list)

    def run(self, operation: str, sequences: list[list[Call]]) -> None:
        before_ms = self.total_cpu_ms()
        load = run_in_order(
            self.bench.running.server.port,
            sequences,
            seconds=_MAX_SECONDS_OF_LOAD,
            clients=_CLIENTS,
            headers={"X-Forwarded-Proto": "https"},
        )
        self.cpu_ms[operation] += self.total_cpu_ms() - before_ms
        self.requests[operation] += load.requests
        self.p50_ms[operation].append(load.p50_ms)
        self.p99_ms[operation].append(load.p99_ms)
        self.failures += [load.first_error] * load.failed


def measure_engine_away(folder: Path, results: Results, *, away_s: float) -> None:
    with ExitStack() as stack:
        sides = {name: _start_side(name, folder, stack) for name in (UP, AWAY)}
        with ExitStack() as subscriptions:
            up_clients = subscriptions.enter_context(sides[UP].bench.subscribe(_SUBSCRIBERS))
            with sides[AWAY].bench.subscribe(_SUBSCRIBERS) as away_clients:
                _run_round(sides, 0)  # warms up both servers
                for side in sides.values():
                    side.bench.wait_until_published()
                time.sleep(1)
            _clear(sides)
            for node in sides[AWAY].bench.running.nodes:
                node.kill()
            began_at, round_number = time.monotonic(), 1
            cpu_before = {name: side.total_cpu_ms() for name, side in sides.items()}
            while time.monotonic() < began_at + away_s:
                _run_round(sides, round_number)
                round_number += 1
            sides[UP].bench.wait_until_published()
            time.sleep(1)
            for name, side in sides.items():
                side.cpu_ms[_ALL] = side.total_cpu_ms() - cpu_before[name]
        _add_ratios(sides, results, time.monotonic() - began_at, round_number - 1)
        _add_catch_up(sides[AWAY], away_clients, results)
        _check_order(sides[UP], [up_clients], UP, results)


def _start_side(name: str, folder: Path, stack: ExitStack) -> _Side:
    side = start_side(name, folder, stack)
    with side.bench.database.engine.begin() as connection:
        connection.execute(_INSERT_FRIENDS)
    return _Side(side.bench, side.postmaster)


def _run_round(sides: dict[str, _Side], number: int) -> None:
    names = [UP, AWAY] if number % 2 else [AWAY, UP]
    sequences: dict[str, Callable[[EngineBench, int], list[list[Call]]]] = {
        "friend request": _friend_requests,
        "gift": _gifts,
        "live and leave": _lives,
    }
    for operation, calls in sequences.items():
        for name in names:
            sides[name].run(operation, calls(sides[name].bench, number))
    time.sleep(_PAUSE_S)


def _friend_requests(bench: EngineBench, number: int) -> list[list[Call]]:
    first = _FIRST_APPLICANT + number * _COUNTS["friend request"]
    applicants = range(first, first + _COUNTS["friend request"])
    assert applicants[-1] <= USER_COUNT
    return [
        [Call(Client.add, bench.token(applicant), {"user_id": _receiver(applicant)})]
        for applicant in applicants
    ]


def _gifts(bench: EngineBench, number: int) -> list[list[Call]]:
    first = _FIRST_APPLICANT + number * _COUNTS["gift"]
    return [
        [
            Call(
                Client.send_gift,
                bench.token(1000 + sender % (USER_COUNT - 1000)),
                {"value": 1, "object": _receiver(sender), "description": "rose"},
            )
        ]
        for sender in range(first, first + _COUNTS["gift"])
    ]


def _lives(bench: EngineBench, number: int) -> list[list[Call]]:
    tokens = [bench.token(host) for host in _HOSTS[: _COUNTS["live and leave"]]]
    return [
        [Call(Client.live, token, {"title": "hello"}), Call(Client.leave, token)]
        for token in tokens
    ]


def _receiver(number: int) -> str:
    return phone_number(_SUBSCRIBERS[number % len(_SUBSCRIBERS)])


def _clear(sides: dict[str, _Side]) -> None:
    """Forget the measurements of the first round."""
    for side in sides.values():
        for measured in (side.p50_ms, side.p99_ms, side.cpu_ms, side.requests):
            measured.clear()
        assert not side.failures, side.failures[:3]


def _add_ratios(sides: dict[str, _Side], results: Results, away_s: float, rounds: int) -> None:
    up, away = sides[UP], sides[AWAY]
    for operation in _COUNTS:
        cpu = [side.cpu_ms[operation] / side.requests[operation] for side in (up, away)]
        p50 = [median(side.p50_ms[operation]) for side in (up, away)]
        p99 = [median(side.p99_ms[operation]) for side in (up, away)]
        ratio = median(
            away_ms / up_ms
            for up_ms, away_ms in zip(up.p50_ms[operation], away.p50_ms[operation], strict=True)
        )
        results.add(
            Row(
                f"engine away for {away_s:.0f} s: {operation}",
                NCHAN,
                f"p50 {p50[1]:.1f} ms, with engine {p50[0]:.1f} ms ({ratio:.2f} ×, {rounds} pairs);"
                f" p99 {p99[1]:.1f} and {p99[0]:.1f} ms; CPU {cpu[1]:.2f} and {cpu[0]:.2f} ms"
                f" ({cpu[1] / cpu[0]:.2f} ×); {away.requests[operation]} requests",
                f"p50 and CPU at most {_MAX_RATIO} ×",
                ratio <= _MAX_RATIO and cpu[1] <= cpu[0] * _MAX_RATIO,
            )
        )
    up_ms, away_ms = (side.cpu_ms[_ALL] / sum(side.requests.values()) for side in (up, away))
    results.add(
        Row(
            "engine away: CPU time of a request, relay included",
            NCHAN,
            f"{away_ms:.2f} ms, with engine {up_ms:.2f} ms ({away_ms / up_ms:.2f} ×)",
            f"at most {_MAX_RATIO} ×",
            away_ms <= up_ms * _MAX_RATIO,
        )
    )
    failures = up.failures + away.failures
    reason = f" ({failures[0]})" if failures else ""
    results.add(
        Row(
            "engine away: refused requests",
            NCHAN,
            f"{len(away.failures)}, with engine {len(up.failures)}{reason}",
            "0",
            not failures,
        )
    )


def _add_catch_up(side: _Side, earlier_clients: EventClients, results: Results) -> None:
    """Start the engine again; measure how long the relay publishes, and check every channel."""
    (waiting,) = side.bench.database.execute_one(_OUTBOX_SIZE)
    started_at = time.monotonic()
    for node in side.bench.running.nodes:
        node.start()
    side.bench.running.wait_until_ready()
    with side.bench.subscribe(_SUBSCRIBERS) as clients:
        side.bench.wait_until_published(_CATCH_UP_TIMEOUT_S)
        catch_up_s = time.monotonic() - started_at
        time.sleep(2)
    published = len(clients.events)
    results.add(
        Row(
            "engine back: time until all events are published",
            NCHAN,
            f"{catch_up_s:.1f} s for {waiting} rows of the outbox, which were {published} events"
            f" ({published / catch_up_s:.0f}/s)",
        )
    )
    _check_order(side, [earlier_clients, clients], AWAY, results)


def _check_order(side: _Side, clients: list[EventClients], name: str, results: Results) -> None:
    """Check that the clients have all numbers of each channel, in order."""
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    for part in clients:
        for received in part.events:
            seqs = numbers[received.client]
            if not seqs or received.event["seq"] > seqs[-1]:
                seqs.append(received.event["seq"])
    gaps = sum(
        later != earlier + 1 for seqs in numbers.values() for earlier, later in pairwise(seqs)
    )
    received_count, missing = sum(map(len, numbers.values())), 0
    for client, account in enumerate(_SUBSCRIBERS):
        last = side.bench.database.execute_one(_CHANNEL_SEQ, name=user_channel(account)).seq
        missing += last - (numbers[client][-1] if numbers[client] else 0)
    results.add(
        Row(
            f"engine {'away and back' if name == AWAY else 'up'}: events of each channel",
            NCHAN,
            f"{received_count} received, {gaps} gaps, {missing} missing at the end",
            "no gaps, in order",
            not gaps and not missing,
        )
    )
