"""`make bench` compares livebackend with an earlier version, a baseline and FastAPI."""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import text

from bench import fill_database, report
from bench.external import external_server, is_external_wanted
from bench.harness import WORKER_COUNT, Bench, new_token_issuer
from bench.measure import Meter
from bench.measurements.friends import measure_friend_requests
from bench.measurements.gifts import measure_gifts
from bench.measurements.lists import measure_list_sizes, measure_lists, measure_searches
from bench.measurements.logins import measure_logins
from bench.measurements.memory import measure_memory
from bench.measurements.mixed_load import measure_mixed_load
from bench.measurements.no_database import measure_no_database
from bench.measurements.other_operations import measure_other_operations
from bench.measurements.user_counts import measure_user_counts
from bench.servers import PEPPER, earlier_version, environment, running_servers
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.services.password_hashing import PasswordHasher

BENCHMARKS: dict[str, Callable[[Bench], None]] = {
    "memory": measure_memory,
    "no_database": measure_no_database,
    "lists": measure_lists,
    "searches": measure_searches,
    "friend_requests": measure_friend_requests,
    "gifts": measure_gifts,
    "logins": measure_logins,
    "mixed_load": measure_mixed_load,
    "list_sizes": measure_list_sizes,
    "other_operations": measure_other_operations,
}
USER_COUNTS = "user_counts"  # measured last, with servers of its own


def main() -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("make bench requires wrk. On Debian or Ubuntu: sudo apt install wrk")
    names = selected_benchmarks(os.environ.get("ROWS", ""))
    with tempfile.TemporaryDirectory(prefix="livebackend-bench-") as name:
        folder = Path(name)
        postgres = EmbeddedPostgres(folder / "postgres")
        postgres.start()
        try:
            run_benchmarks(names, postgres, folder)
        finally:
            postgres.close()


def selected_benchmarks(rows: str) -> list[str]:
    """Return the names in ROWS, or all names."""
    all_names = [*BENCHMARKS, USER_COUNTS]
    names = rows.split() or all_names
    if not set(names) <= set(all_names):
        raise SystemExit(f"ROWS: unknown benchmark; the benchmarks are {' '.join(all_names)}")
    return names


def run_benchmarks(names: list[str], postgres: EmbeddedPostgres, folder: Path) -> None:
    password_hash = PasswordHasher(PEPPER, cost=12).hash(fill_database.PASSWORD)
    database = create_database(postgres, "bench", user_count=100_000, password_hash=password_hash)
    meter = Meter(database, folder / "postgres")
    # Autovacuum is off, because it would distort the measurements. The tables are already vacuumed.
    meter.configure("autovacuum", "off")
    variables = environment(postgres.url("bench"), folder)
    os.environ.update(variables)
    bench = Bench(meter, {}, folder, new_token_issuer())
    with ExitStack() as stack:
        server_names = ["livebackend", "baseline", "FastAPI"]
        if earlier_version():
            server_names.insert(1, "before")
        bench.servers.update(
            stack.enter_context(
                running_servers(server_names, variables, folder, workers=WORKER_COUNT)
            )
        )
        if is_external_wanted():
            bench.servers["external"] = stack.enter_context(external_server(variables, folder))
        for name, benchmark in BENCHMARKS.items():
            if name in names:
                benchmark(bench)
    if USER_COUNTS in names:
        create_database(postgres, "small", user_count=10_000, password_hash=password_hash).close()
        measure_user_counts(bench, postgres.url("small"), database, password_hash)
    print(report.format_table(meter.rows, meter.notes))
    if not os.environ.get("ROWS"):
        report.write_results(meter.rows, meter.notes, database)
    database.close()
    if meter.failures:
        raise SystemExit(f"requests failed: {'; '.join(meter.failures)}")


def create_database(
    postgres: EmbeddedPostgres, name: str, *, user_count: int, password_hash: str
) -> Database:
    server = Database(postgres.url("postgres"))
    with server.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    server.close()
    database = Database(postgres.url(name))
    migrate(database)
    fill_database.fill_database(database, user_count=user_count, password_hash=password_hash)
    return database


if __name__ == "__main__":
    main()
