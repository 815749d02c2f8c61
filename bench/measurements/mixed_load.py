"""The friend list under mixed load: message lists, gifts and 64 logins at the same time."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from bench.harness import LIVEBACKENDS, ROUND_COUNT, SECONDS, Bench, list_forms, listed_accounts
from bench.load import LoadResult, run_in_order, run_wrk
from bench.measurements.gifts import gifts_to_many_hosts
from bench.measurements.logins import CONCURRENT_LOGIN_COUNT, login_calls

# Connections of the measured friend list, alone and under mixed load.
_CONNECTIONS = 16
# Connections of the message lists, and of the gifts.
_OTHER_CONNECTIONS = 4
# The logins of one round take many seconds, so there are fewer and longer rounds.
_ROUNDS = min(ROUND_COUNT, 2)
_SECONDS = 2 * SECONDS


@dataclass(frozen=True)
class _Load:
    """Forms of wrk's requests and their connections."""

    path: str
    forms: list[str]
    connections: int

    def run(self, bench: Bench, server: str, seconds: float) -> LoadResult:
        return run_wrk(
            bench.servers[server].port,
            self.path,
            self.forms,
            folder=bench.folder,
            seconds=seconds,
            connections=self.connections,
        )


def measure_mixed_load(bench: Bench) -> None:
    loads = {
        "friend lists": _Load(
            "/list", list_forms("friendlist", listed_accounts())(bench.token), _CONNECTIONS
        ),
        "message lists": _Load(
            "/list", list_forms("messagelist", listed_accounts())(bench.token), _OTHER_CONNECTIONS
        ),
        "gifts": _Load("/golden", gifts_to_many_hosts(bench.token), _OTHER_CONNECTIONS),
    }
    servers = bench.running(LIVEBACKENDS)
    alone: dict[str, list[LoadResult]] = {server: [] for server in servers}
    mixed: dict[str, list[dict[str, LoadResult]]] = {server: [] for server in servers}
    for _ in range(_ROUNDS):
        for server in servers:
            alone[server].append(loads["friend lists"].run(bench, server, _SECONDS))
            mixed[server].append(_run_together(bench, server, loads))
    for server in servers:
        _note_results(bench, server, alone[server], mixed[server])


def _run_together(bench: Bench, server: str, loads: dict[str, _Load]) -> dict[str, LoadResult]:
    """Run the loads and the logins; return when the last login has its response."""
    port = bench.servers[server].port
    logins = login_calls(range(2000, 2000 + CONCURRENT_LOGIN_COUNT))
    with ThreadPoolExecutor() as executor:
        futures = {
            "logins": executor.submit(
                run_in_order, port, logins, seconds=60, clients=CONCURRENT_LOGIN_COUNT
            )
        }
        for name in ("message lists", "gifts"):
            futures[name] = executor.submit(loads[name].run, bench, server, _SECONDS + 2)
        time.sleep(1)  # the other loads begin before the friend list, and end after it
        friend_lists = loads["friend lists"].run(bench, server, _SECONDS)
        return {"friend lists": friend_lists} | {
            name: future.result() for name, future in futures.items()
        }


def _note_results(
    bench: Bench, server: str, alone: list[LoadResult], mixed: list[dict[str, LoadResult]]
) -> None:
    p99_alone = median(load.p99_ms for load in alone)
    p99_mixed = median(loads["friend lists"].p99_ms for loads in mixed)
    rates = {name: median(loads[name].rate for loads in mixed) for name in mixed[0]}
    note = (
        f"p99 {p99_mixed:.1f} ms under mixed load, {p99_alone:.1f} ms alone:"
        f" {p99_mixed / p99_alone:.2f} ×; under mixed load, per second: "
    ) + ", ".join(f"{rate:.0f} {name}" for name, rate in rates.items())
    bench.meter.notes[f"friend list under mixed load, {server}"] = note
    print(f"friend list under mixed load, {server}: {note}", flush=True)
    for loads in [{"friend lists": load} for load in alone] + mixed:
        for name, load in loads.items():
            bench.meter.note_failures(f"mixed load, {name} ({server})", load)
