"""How fast coins move to a thousand hosts and to one: `make bench-ledger`.

All in one run on one machine, the designs and the two cases in turns, so that what else the machine
does meets them alike. A ratio is the sum over all turns of one divided by that of the other.
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

from bench.bank import Bank, opened, wal_syncs
from livebackend.database.engine import Database
from livebackend.services.login_tokens import Account, LoginTokens
from tests.support.application import INI
from tests.support.servers import serving

SENDERS, HOSTS = 10_000, 1000
REQUESTERS = 64
SECRET = "for-development-only-not-a-secret-0000"


@dataclass
class Row:
    """What was measured of one design in one case, over all turns."""

    name: str
    case: str
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0
    syncs: int = 0

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def told(self) -> dict[str, Any]:
        quantiles = statistics.quantiles(self.latencies, n=100)
        return {
            "design": self.name,
            "case": self.case,
            "gifts_per_second": round(self.per_second),
            "p50_ms": round(quantiles[49] * 1000, 1),
            "p99_ms": round(quantiles[98] * 1000, 1),
            "wal_syncs_per_gift": round(self.syncs / len(self.latencies), 3),
        }


@dataclass
class Bench:
    """The bank, how long a turn is, and all that was measured."""

    bank: Bank
    seconds: float
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.database = Database(self.bank.url, pool_size=1)
        self.hosts, self.senders = self.bank.people[:HOSTS], self.bank.people[HOSTS:]

    def add(self, name: str, case: str, module: str, tasks: list[dict[str, Any]]) -> None:
        """Runs a process for each task, all at the same time, and keeps what they measured."""
        row = self.rows.setdefault((name, case), Row(name, case))
        before = wal_syncs(self.database)
        begin_at = time.time() + 1.5
        running = []
        for task in tasks:
            process = subprocess.Popen(
                [sys.executable, "-m", f"bench.{module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            whole = {**task, "begin_at": begin_at, "seconds": self.seconds}
            assert process.stdin
            process.stdin.write(json.dumps(whole))
            process.stdin.close()
            running.append(process)
        for process in running:
            assert process.stdout
            row.latencies += json.loads(process.stdout.read())
            assert process.wait() == 0
        row.seconds += self.seconds
        time.sleep(1.2)  # a server process tells of its flushes once a second
        row.syncs += wal_syncs(self.database) - before

    def post(self, name: str, case: str, *, processes: int, **task: Any) -> None:
        """A turn at the service layer."""
        hosts = self.hosts if case == "spread" else self.hosts[:1]
        common = {
            "url": self.bank.url,
            "connections": 0,
            "threads": REQUESTERS // processes,
            "senders": [coin_account for coin_account, _ in self.senders],
            "hosts": [coin_account for coin_account, _ in hosts],
        }
        spends = case == "hot, host spends"
        self.add(
            name,
            case,
            "posting",
            [
                {**common, **task, "number": number, "host_spends": spends and number == 0}
                for number in range(processes)
            ],
        )

    def call(self, name: str, case: str, ports: list[int], tokens: dict[int, str]) -> None:
        """A turn over HTTP."""
        hosts = self.hosts if case == "spread" else self.hosts[:1]
        task = {
            "ports": ports,
            "clients": REQUESTERS,
            "tokens": [tokens[account] for _, account in self.senders],
            "hosts": [phone(account) for _, account in hosts],
            "host_spends": tokens[hosts[0][1]] if case == "hot, host spends" else None,
            "others": [phone(account) for _, account in self.senders[:1000]],
        }
        self.add(name, case, "calling", [task])

    def ratio(self, name: str, over: str, case: str = "hot", over_case: str = "hot") -> float:
        return self.rows[name, case].per_second / self.rows[over, over_case].per_second


def phone(account: int) -> str:
    return f"{13800000000 + account}"


@contextmanager
def servers(bank: Bank, folder: Path, many: int) -> Iterator[list[int]]:
    """Server processes, as many threads in each as there may be clients."""
    ini = folder / "bench.ini"
    ini.write_text(INI.read_text("utf-8").replace("threads = 64", f"threads = {REQUESTERS + 1}"))
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                serving(
                    ini,
                    folder,
                    {"database.url": bank.url, "ledger.writer": str(number)},
                    pserve=True,
                )
            ).port
            for number in range(many)
        ]


CASES = ("spread", "hot", "hot, host spends")


@click.command()
@click.option("--seconds", default=3.0, help="of one turn")
@click.option("--rounds", default=3, help="turns of each")
@click.option("--slow-wal-us", default=1000, help="added to each flush of the log")
@click.option("--http/--no-http", default=True)
@click.option("--json", "as_json", type=click.Path(dir_okay=False, path_type=Path))
def main(
    seconds: float, rounds: int, slow_wal_us: int, *, http: bool, as_json: Path | None
) -> None:
    """Measures gifts per second, over HTTP and at the service layer, beside the naive design."""
    began = time.monotonic()
    with opened(HOSTS + SENDERS, slow_wal_us=slow_wal_us) as bank:
        bench = Bench(bank, seconds)
        for turn in range(rounds):
            click.echo(f"service layer, turn {turn + 1} of {rounds}", err=True)
            for case in CASES:
                for processes in (1, 2):
                    name = f"service, {processes} process" + "es" * (processes > 1)
                    bench.post(name, case, processes=processes, design="writer")
            for case in CASES[:2]:
                for connections in (8, 32):
                    name = f"naive, {connections} connections"
                    task = {"design": "naive", "connections": connections}
                    bench.post(name, case, processes=1, **task)
        if http:
            over_http(bench, rounds)
        bench.database.close()
    tell(bench, slow_wal_us, as_json, time.monotonic() - began)


def over_http(bench: Bench, rounds: int) -> None:
    signer = LoginTokens([SECRET], clock=time.time)
    tokens = {
        account: signer.issue(Account(account, phone(account), 1), lifetime_s=3600)
        for _, account in bench.bank.people
    }
    with tempfile.TemporaryDirectory(prefix="livebackend-bench-") as name:
        for many in (1, 2):
            with servers(bench.bank, Path(name), many) as ports:
                named = f"HTTP, {many} server process" + "es" * (many > 1)
                for turn in range(rounds):
                    click.echo(f"{named}, turn {turn + 1} of {rounds}", err=True)
                    for case in CASES:
                        bench.call(named, case, ports, tokens)


def tell(bench: Bench, slow_wal_us: int, as_json: Path | None, took_s: float) -> None:
    click.echo(f"{REQUESTERS} requesters, +{slow_wal_us} us for each flush of the log")
    click.echo(f"{'':28}{'':18}{'gifts/s':>8}{'p50 ms':>8}{'p99 ms':>8}{'syncs/gift':>12}")
    for row in bench.rows.values():
        told = row.told
        click.echo(
            f"{row.name:28}{row.case:18}{told['gifts_per_second']:8}{told['p50_ms']:8}"
            f"{told['p99_ms']:8}{told['wal_syncs_per_gift']:12}"
        )
    ours = [name for name in dict.fromkeys(name for name, _ in bench.rows) if "naive" not in name]
    best = {
        case: max(
            row.per_second
            for row in bench.rows.values()
            if "naive" in row.name and row.case == case
        )
        for case in CASES[:2]
    }
    floors: dict[str, tuple[float, float]] = {}
    for name in ours:
        floors[f"{name}: hot / spread"] = bench.ratio(name, name, "hot", "spread"), 0.9
        syncs = bench.rows[name, "hot"].told["wal_syncs_per_gift"]
        floors[f"{name}: gifts per WAL sync, hot"] = 1 / max(syncs, 1e-6), 5.0
    service = bench.rows["service, 1 process", "hot"].per_second
    spread = bench.rows["service, 1 process", "spread"].per_second
    floors["service, 1 process: hot / the naive design's best hot"] = service / best["hot"], 3.0
    floors["service, 1 process: spread / the naive design's best spread"] = (
        spread / best["spread"],
        1.0,
    )
    missed = 0
    for what, (value, floor) in floors.items():
        missed += value < floor
        click.echo(f"{value:8.2f}  (at least {floor})  {what}{'  MISSED' * (value < floor)}")
    click.echo(f"{took_s:.0f} s")
    if as_json:
        told_all = {
            "slow_wal_us": slow_wal_us,
            "rows": [row.told for row in bench.rows.values()],
            "ratios": {
                what: {"value": value, "floor": floor} for what, (value, floor) in floors.items()
            },
        }
        as_json.write_text(json.dumps(told_all, indent=2) + "\n", "utf-8")
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
