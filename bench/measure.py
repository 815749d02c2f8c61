"""Measure the same requests at several servers, alternating between the servers."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import requests
from sqlalchemy import text

from bench.load import LoadResult
from bench.machine import cpu_ms, process_tree
from bench.servers import Server
from livebackend.database.engine import Database

Action = Callable[[Server], LoadResult]
# Path and encoded form of a POST request.
Post = tuple[str, str]

# Number of requests whose SQL statements are counted.
_STATEMENT_SAMPLES = 16


@dataclass(frozen=True)
class Row:
    """Measurements of one server; CPU times are in milliseconds per request."""

    name: str
    server: str
    rate: float
    p50_ms: float
    p99_ms: float
    failed: int
    first_error: str
    server_cpu: float
    postgres_cpu: float
    statements: float | None

    @property
    def cpu(self) -> float:
        return self.server_cpu + self.postgres_cpu


class Meter:
    """Measures servers that use the PostgreSQL with the data directory `data`."""

    def __init__(self, database: Database, data: Path) -> None:
        self._database = database
        self._log = data.with_name(f"{data.name}.log")
        self._postgres = int((data / "postmaster.pid").read_text().split()[0])
        self.rows: list[Row] = []
        # Results that are printed below the table, by topic.
        self.notes: dict[str, str] = {}

    def measure(
        self,
        name: str,
        actions: Mapping[Server, Action],
        *,
        rounds: int = 1,
        counted: Mapping[Server, Sequence[Post]] | None = None,
    ) -> dict[str, Row]:
        """Run the action of each server `rounds` times, in turn; return a row per server."""
        # Otherwise PostgreSQL could write a checkpoint of earlier data during the measurement.
        self._execute("CHECKPOINT")
        loads: dict[Server, list[LoadResult]] = {server: [] for server in actions}
        cpu = dict.fromkeys(actions, (0.0, 0.0))
        for _ in range(rounds):
            for server, action in actions.items():
                before = self._cpu(server)
                loads[server].append(action(server))
                after = self._cpu(server)
                cpu[server] = tuple(  # type: ignore[assignment]
                    total + end - begin
                    for total, begin, end in zip(cpu[server], before, after, strict=True)
                )
        rows = {}
        for server, runs in loads.items():
            requests = sum(run.requests for run in runs)
            rows[server.name] = Row(
                name,
                server.name,
                requests / sum(run.seconds for run in runs),
                median(run.p50_ms for run in runs),
                median(run.p99_ms for run in runs),
                sum(run.failed for run in runs),
                next((run.first_error for run in runs if run.first_error), ""),
                cpu[server][0] / requests,
                cpu[server][1] / requests,
                self._statements(server, counted[server]) if counted else None,
            )
            self.rows.append(rows[server.name])
            print(_line(rows[server.name]), flush=True)
        return rows

    def _cpu(self, server: Server) -> tuple[float, float]:
        return cpu_ms(server.pids), cpu_ms(process_tree(self._postgres))

    def _statements(self, server: Server, calls: Sequence[Post]) -> float:
        """Return the number of SQL statements per request, including BEGIN and COMMIT."""
        calls = calls[:_STATEMENT_SAMPLES]
        with self._statement_log():
            offset = self._log.stat().st_size
            for path, form in calls:
                post_form(server, path, form)
            time.sleep(0.1)
            with self._log.open("rb") as log:
                log.seek(offset)
                content = log.read()
        statements = content.count(b"LOG:  statement: ") + content.count(b"LOG:  execute ")
        return statements / len(calls)

    @contextmanager
    def _statement_log(self) -> Iterator[None]:
        self.configure("log_statement", "all")
        yield
        self.configure("log_statement", "none")

    def configure(self, name: str, value: str) -> None:
        self._execute(f"ALTER SYSTEM SET {name} = '{value}'", "SELECT pg_reload_conf()")
        time.sleep(0.3)

    def _execute(self, *statements: str) -> None:
        with self._database.engine.execution_options(
            isolation_level="AUTOCOMMIT"
        ).connect() as connection:
            for statement in ("SET statement_timeout = 0", *statements):
                connection.execute(text(statement))


def post_form(server: Server, path: str, form: str) -> requests.Response:
    """Post a form to a server over a new connection and return the response."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"http://127.0.0.1:{server.port}{path}"
    return requests.post(url, form, headers=headers, timeout=60)


def _line(row: Row) -> str:
    failures = f"  {row.failed} failed: {row.first_error}" if row.failed else ""
    return (
        f"{row.name:34} {row.server:11} {row.rate:7.0f}/s  p50 {row.p50_ms:6.1f} ms  "
        f"p99 {row.p99_ms:6.1f} ms  cpu {row.server_cpu:6.3f} + {row.postgres_cpu:.3f} ms{failures}"
    )
