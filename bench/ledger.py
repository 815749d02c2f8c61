"""Benchmark of gifts to a thousand hosts and to one host: `make bench-ledger`.

The benchmark alternates between designs (ledger, naive) and cases (one host, many hosts), so that
other load on the machine affects all of them equally. A reported ratio divides the gifts per
second of one design and case by those of another.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bench.ledger_database import LedgerDatabase, ledger_database, wal_syncs
from livebackend.database.engine import Database
from livebackend.services.login_tokens import CurrentUser, LoginTokens
from tests.support.application import DEVELOPMENT_INI
from tests.support.servers import running_server

SENDER_COUNT, HOST_COUNT = 10_000, 1000
CLIENT_COUNT = 64
SECRET = "for-development-only-not-a-secret-0000"


@dataclass
class Row:
    """Measurements of one design in one case, such as the ledger with many hosts."""

    design_name: str
    case: str
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0
    wal_syncs: int = 0

    @property
    def gifts_per_second(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def summary(self) -> dict[str, Any]:
        quantiles = statistics.quantiles(self.latencies, n=100)
        return {
            "design": self.design_name,
            "case": self.case,
            "gifts_per_second": round(self.gifts_per_second),
            "p50_ms": round(quantiles[49] * 1000, 1),
            "p99_ms": round(quantiles[98] * 1000, 1),
            "wal_syncs_per_gift": round(self.wal_syncs / len(self.latencies), 3),
        }


@dataclass
class Bench:
    """The database, the duration of each measurement in seconds, and the results."""

    ledger_database: LedgerDatabase
    seconds: float
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.database = Database(self.ledger_database.url, pool_size=1)
        self.hosts = self.ledger_database.users[:HOST_COUNT]
        self.senders = self.ledger_database.users[HOST_COUNT:]

    def measure(
        self, design_name: str, case: str, module: str, tasks: list[dict[str, Any]]
    ) -> None:
        """Run one load process per task, all at the same time; store the measurements."""
        row = self.rows.setdefault((design_name, case), Row(design_name, case))
        syncs_before = wal_syncs(self.database)
        begin_at = time.time() + 1.5
        load_processes = []
        for task in tasks:
            process = subprocess.Popen(
                [sys.executable, "-m", f"bench.{module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            process_input = {**task, "begin_at": begin_at, "seconds": self.seconds}
            assert process.stdin
            process.stdin.write(json.dumps(process_input))
            process.stdin.close()
            load_processes.append(process)
        for process in load_processes:
            assert process.stdout
            row.latencies += json.loads(process.stdout.read())
            assert process.wait() == 0
        row.seconds += self.seconds
        time.sleep(1.2)  # PostgreSQL processes report WAL flushes once per second
        row.wal_syncs += wal_syncs(self.database) - syncs_before

    def measure_service(
        self, design_name: str, case: str, *, process_count: int, **task: Any
    ) -> None:
        """Measure one case, such as "many hosts", at the service layer, without HTTP."""
        hosts = self.hosts if case == "many hosts" else self.hosts[:1]
        common_input = {
            "url": self.ledger_database.url,
            "connections": 0,
            "threads": CLIENT_COUNT // process_count,
            "senders": [coin_account for coin_account, _ in self.senders],
            "hosts": [coin_account for coin_account, _ in hosts],
        }
        host_spends = case == "one host, host spends"
        self.measure(
            design_name,
            case,
            "gift_posting",
            [
                {
                    **common_input,
                    **task,
                    "process_index": index,
                    "host_spends": host_spends and index == 0,
                }
                for index in range(process_count)
            ],
        )

    def measure_http(
        self, design_name: str, case: str, ports: list[int], tokens: dict[int, str]
    ) -> None:
        """Measure one case, such as "many hosts", over HTTP."""
        hosts = self.hosts if case == "many hosts" else self.hosts[:1]
        task = {
            "ports": ports,
            "client_count": CLIENT_COUNT,
            "tokens": [tokens[account] for _, account in self.senders],
            "hosts": [phone(account) for _, account in hosts],
            "host_token": tokens[hosts[0][1]] if case == "one host, host spends" else None,
            "recipients": [phone(account) for _, account in self.senders[:1000]],
        }
        self.measure(design_name, case, "gift_requests", [task])


def phone(account: int) -> str:
    return f"{13800000000 + account}"


@contextmanager
def running_servers(ledger: LedgerDatabase, folder: Path, server_count: int) -> Iterator[list[int]]:
    """Start `server_count` servers, and yield their ports.

    Each server has more threads than the benchmark has clients.
    """
    ini = folder / "bench.ini"
    ini.write_text(
        DEVELOPMENT_INI.read_text("utf-8").replace("threads = 64", f"threads = {CLIENT_COUNT + 1}")
    )
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_server(
                    ini,
                    folder,
                    {"database.url": ledger.url, "ledger.writer": str(number)},
                    pserve=True,
                )
            ).port
            for number in range(server_count)
        ]


CASES = ("many hosts", "one host", "one host, host spends")


@click.command()
@click.option("--seconds", default=3.0, help="Duration of each measurement in seconds.")
@click.option("--rounds", default=3, help="Number of measurements of each design and case.")
@click.option("--slow-wal-us", default=1000, help="Microseconds added to each WAL flush.")
@click.option("--http/--no-http", default=True, help="Also measure over HTTP.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the results to this JSON file.",
)
def main(
    seconds: float, rounds: int, slow_wal_us: int, *, http: bool, json_file: Path | None
) -> None:
    """Measure gifts per second of the ledger and of the naive design.

    The naive design posts each gift in a separate transaction. The ledger is measured at the
    service layer and over HTTP.
    """
    started_at = time.monotonic()
    with ledger_database(HOST_COUNT + SENDER_COUNT, slow_wal_us=slow_wal_us) as ledger:
        bench = Bench(ledger, seconds)
        for round_index in range(rounds):
            click.echo(f"service layer, round {round_index + 1} of {rounds}", err=True)
            for case in CASES:
                for process_count in (1, 2):
                    name = f"service, {process_count} process" + "es" * (process_count > 1)
                    bench.measure_service(name, case, process_count=process_count, design="writer")
            for case in CASES[:2]:
                for connections in (8, 32):
                    name = f"naive, {connections} connections"
                    task = {"design": "naive", "connections": connections}
                    bench.measure_service(name, case, process_count=1, **task)
        if http:
            measure_over_http(bench, rounds)
        bench.database.close()
    print_results(bench, slow_wal_us, json_file, time.monotonic() - started_at)


def measure_over_http(bench: Bench, rounds: int) -> None:
    login_tokens = LoginTokens([SECRET], clock=time.time)
    tokens = {
        account: login_tokens.issue(CurrentUser(account, phone(account), 1), lifetime_s=3600)
        for _, account in bench.ledger_database.users
    }
    with tempfile.TemporaryDirectory(prefix="livebackend-bench-") as folder:
        for server_count in (1, 2):
            with running_servers(bench.ledger_database, Path(folder), server_count) as ports:
                name = f"HTTP, {server_count} server process" + "es" * (server_count > 1)
                for round_index in range(rounds):
                    click.echo(f"{name}, round {round_index + 1} of {rounds}", err=True)
                    for case in CASES:
                        bench.measure_http(name, case, ports, tokens)


def print_results(
    bench: Bench, slow_wal_us: int, json_file: Path | None, duration_s: float
) -> None:
    click.echo(f"{CLIENT_COUNT} clients, {slow_wal_us} us added to each WAL flush")
    click.echo(f"{'':28}{'':24}{'gifts/s':>8}{'p50 ms':>8}{'p99 ms':>8}{'syncs/gift':>12}")
    for row in bench.rows.values():
        summary = row.summary
        click.echo(
            f"{row.design_name:28}{row.case:24}{summary['gifts_per_second']:8}{summary['p50_ms']:8}"
            f"{summary['p99_ms']:8}{summary['wal_syncs_per_gift']:12}"
        )
    ledger_designs = [
        name for name in dict.fromkeys(name for name, _ in bench.rows) if "naive" not in name
    ]
    best_naive_rates = {
        case: max(
            row.gifts_per_second
            for row in bench.rows.values()
            if "naive" in row.design_name and row.case == case
        )
        for case in CASES[:2]
    }
    ratio_and_minimum_by_label: dict[str, tuple[float, float]] = {}
    for name in ledger_designs:
        one_host, many_hosts = bench.rows[name, "one host"], bench.rows[name, "many hosts"]
        ratio_and_minimum_by_label[f"{name}: gifts/s to one host ÷ many hosts"] = (
            one_host.gifts_per_second / many_hosts.gifts_per_second,
            0.9,
        )
        syncs_per_gift = one_host.summary["wal_syncs_per_gift"]
        ratio_and_minimum_by_label[f"{name}: gifts per WAL sync, one host"] = (
            1 / max(syncs_per_gift, 1e-6),
            5.0,
        )
    service_rates = {
        case: bench.rows["service, 1 process", case].gifts_per_second for case in CASES[:2]
    }
    ratio_and_minimum_by_label["service, 1 process: gifts/s to one host ÷ fastest naive design"] = (
        service_rates["one host"] / best_naive_rates["one host"],
        3.0,
    )
    ratio_and_minimum_by_label[
        "service, 1 process: gifts/s to many hosts ÷ fastest naive design"
    ] = (
        service_rates["many hosts"] / best_naive_rates["many hosts"],
        1.0,
    )
    missed_count = 0
    for label, (value, minimum) in ratio_and_minimum_by_label.items():
        missed_count += value < minimum
        click.echo(f"{value:8.2f}  (at least {minimum})  {label}{'  MISSED' * (value < minimum)}")
    click.echo(f"the benchmark took {duration_s:.0f} s")
    if json_file:
        results = {
            "slow_wal_us": slow_wal_us,
            "rows": [row.summary for row in bench.rows.values()],
            "ratios": {
                label: {"value": value, "minimum": minimum}
                for label, (value, minimum) in ratio_and_minimum_by_label.items()
            },
        }
        json_file.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    if missed_count:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
