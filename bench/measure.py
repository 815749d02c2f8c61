"""Measure the same requests at several servers, alternating between the servers."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import requests
from sqlalchemy import text

from bench.load import LoadResult
from bench.machine import cpu_ms, process_tree
from bench.servers import Server
from livebackend.database.engine import Database

T = TypeVar("T")
Action = Callable[[Server], LoadResult]
# Path and encoded form of a POST request.
Post = tuple[str, str]

# Number of requests whose SQL statements are counted.
_STATEMENT_SAMPLES = 16


@dataclass(frozen=True)
class Row:
    """Measurements of one server; CPU times are in milliseconds per request."""

    measurement: str
    server: str
    rate: float
    p50_ms: float
    p99_ms: float
    failed: int
    server_cpu: float
    postgres_cpu: float
    statements: float | None

    @property
    def cpu(self) -> float:
        return self.server_cpu + self.postgres_cpu


class Meter:
    """Measures servers; `data_folder` is the data directory of their PostgreSQL."""

    def __init__(self, database: Database, data_folder: Path) -> None:
        self._database = database
        self._log = data_folder.with_name(f"{data_folder.name}.log")
        self._postgres = int((data_folder / "postmaster.pid").read_text().split()[0])
        self.rows: list[Row] = []
        # Results that are printed below the table, by topic.
        self.notes: dict[str, str] = {}
        # Descriptions of failed requests; if there are any, the results are not valid.
        self.failures: list[str] = []

    def measure(
        self,
        measurement: str,
        actions: Mapping[Server, Action],
        *,
        rounds: int = 1,
        counted_posts: Mapping[Server, Sequence[Post]] | None = None,
    ) -> dict[str, Row]:
        """Run each server's action once per round; return a dict from server name to Row.

        Each round begins with another server, because the first one after a checkpoint writes more.
        """
        # Write a checkpoint now, so that PostgreSQL writes none for earlier data while measuring.
        self._execute("CHECKPOINT")
        results_by_server: dict[Server, list[LoadResult]] = {server: [] for server in actions}
        cpu_by_server = dict.fromkeys(actions, (0.0, 0.0))
        for number in range(rounds):
            for server, action in _rotated(list(actions.items()), number):
                cpu_before = self._cpu(server)
                results_by_server[server].append(action(server))
                cpu_after = self._cpu(server)
                cpu_by_server[server] = tuple(  # type: ignore[assignment]
                    total_ms + after_ms - before_ms
                    for total_ms, before_ms, after_ms in zip(
                        cpu_by_server[server], cpu_before, cpu_after, strict=True
                    )
                )
        rows = {}
        for server, server_results in results_by_server.items():
            request_count = sum(result.requests for result in server_results) or 1
            rows[server.name] = Row(
                measurement,
                server.name,
                request_count / sum(result.seconds for result in server_results),
                median(result.p50_ms for result in server_results),
                median(result.p99_ms for result in server_results),
                sum(result.failed for result in server_results),
                cpu_by_server[server][0] / request_count,
                cpu_by_server[server][1] / request_count,
                self._statements_per_request(server, counted_posts[server])
                if counted_posts
                else None,
            )
            self.rows.append(rows[server.name])
            for result in server_results:
                self.note_failures(f"{measurement} ({server.name})", result)
            print(_line(rows[server.name]), flush=True)
        return rows

    def note_failures(self, name: str, result: LoadResult) -> None:
        if result.failed:
            self.failures.append(f"{name}: {result.failed} {result.first_error}".strip())
            print(f"FAILED: {self.failures[-1]}", flush=True)

    def _cpu(self, server: Server) -> tuple[float, float]:
        return cpu_ms(server.pids), cpu_ms(process_tree(self._postgres))

    def _statements_per_request(self, server: Server, posts: Sequence[Post]) -> float:
        """Return the number of SQL statements per request, including BEGIN and COMMIT."""
        posts = posts[:_STATEMENT_SAMPLES]
        with self._statement_log():
            log_offset = self._log.stat().st_size
            for path, form in posts:
                post_form(server, path, form)
            time.sleep(0.1)
            with self._log.open("rb") as log:
                log.seek(log_offset)
                content = log.read()
        statement_count = content.count(b"LOG:  statement: ") + content.count(b"LOG:  execute ")
        return statement_count / len(posts)

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


def _rotated(items: list[T], number: int) -> list[T]:
    first = number % len(items)
    return items[first:] + items[:first]


def post_form(server: Server, path: str, form: str) -> requests.Response:
    """Post a form to a server over a new connection and return the response."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"http://127.0.0.1:{server.port}{path}"
    return requests.post(url, form, headers=headers, timeout=60)


def _line(row: Row) -> str:
    return (
        f"{row.measurement:34} {row.server:11} {row.rate:7.0f}/s  p50 {row.p50_ms:6.1f} ms  "
        f"p99 {row.p99_ms:6.1f} ms  cpu {row.server_cpu:6.3f} + {row.postgres_cpu:.3f} ms"
    )
