"""CPU time of a gift with and without live events.

Two servers get the same load, one after the other, in several rounds. At one of them, live events
are enabled, and each sender and each host has opened its channel, so that each gift is two events.
The CPU time is that of the server with its relay, and of its PostgreSQL; that of the engine, which
is nginx, is not part of it.
"""

from contextlib import ExitStack
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from sqlalchemy import text

from bench.events.engines import NCHAN, EngineBench
from bench.events.rows import Results, Row
from bench.events.side import Side, start_side
from bench.fill_database import phone_number
from bench.load import run_wrk

OFF, ON = "off", "on"
_EVENTS = {OFF: 0, ON: 2}
_ROUNDS = 6
_SECONDS = 5.0
_CONNECTIONS = 32
_SENDERS = range(1, 201)
_HOSTS = range(201, 1201)
_MAX_RATIO = 1.10

_EVENT_COUNT = text("SELECT coalesce(sum(seq), 0) FROM event_channels")
_OPEN_CHANNELS = text(
    "INSERT INTO event_channels (name) SELECT 'user.' || id FROM generate_series(1, 1200) AS id"
)


def measure_gift_cost(folder: Path, results: Results) -> None:
    with ExitStack() as stack:
        sides = {
            OFF: start_side(f"gifts-{OFF}", folder, stack, {"events.gateway": ""}),
            ON: start_side(f"gifts-{ON}", folder, stack),
        }
        with sides[ON].bench.database.engine.begin() as connection:
            connection.execute(_OPEN_CHANNELS)
        for hosts in (_HOSTS, _HOSTS[:1]):
            _measure(sides, hosts, results)


def _measure(sides: dict[str, Side], hosts: range, results: Results) -> None:
    bodies = {name: _bodies(side.bench, hosts) for name, side in sides.items()}
    cpu_ms: dict[str, list[float]] = {OFF: [], ON: []}
    for number in range(_ROUNDS + 1):
        for name in (OFF, ON) if number % 2 else (ON, OFF):
            gift_ms = _gift_cpu_ms(sides[name], bodies[name], events_per_gift=_EVENTS[name])
            if number:  # the first round warms up both servers
                cpu_ms[name].append(gift_ms)
    ratio = median(on / off for on, off in zip(cpu_ms[ON], cpu_ms[OFF], strict=True))
    results.add(
        Row(
            f"CPU time of a gift, 200 senders, {len(hosts)} hosts",
            NCHAN,
            f"{median(cpu_ms[ON]):.3f} ms, without live events {median(cpu_ms[OFF]):.3f} ms"
            f" ({ratio:.2f} ×, {_ROUNDS} pairs)",
            f"at most {_MAX_RATIO} ×",
            ratio <= _MAX_RATIO,
        )
    )


def _bodies(bench: EngineBench, hosts: range) -> list[str]:
    tokens = [bench.token(sender) for sender in _SENDERS]
    return [
        urlencode(
            {
                "send_gift": "1",
                "token": tokens[number % len(tokens)],
                "object": phone_number(hosts[number % len(hosts)]),
                "value": "1",
                "description": "a rose",
            }
        )
        for number in range(1000)
    ]


def _gift_cpu_ms(side: Side, bodies: list[str], *, events_per_gift: int) -> float:
    """Return the CPU time of one gift, until all its events are published."""
    events_before = _event_count(side)
    before_ms = side.total_cpu_ms()
    load = run_wrk(
        side.bench.running.server.port,
        "/golden",
        bodies,
        folder=side.bench.folder,
        seconds=_SECONDS,
        connections=_CONNECTIONS,
        headers={"X-Forwarded-Proto": "https"},
    )
    assert not load.failed, f"{load.failed} of {load.requests} gifts failed"
    side.bench.wait_until_published()
    gift_ms = (side.total_cpu_ms() - before_ms) / load.requests
    # wrk does not count the gifts whose responses arrive after its end.
    surplus = _event_count(side) - events_before - events_per_gift * load.requests
    assert 0 <= surplus <= events_per_gift * _CONNECTIONS, f"{surplus} events more than expected"
    return gift_ms


def _event_count(side: Side) -> int:
    return int(side.bench.database.execute_one(_EVENT_COUNT)[0])
