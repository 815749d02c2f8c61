"""Format the results as a table and write bench/RESULTS.md."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from subprocess import run

from sqlalchemy import text

from bench.machine import processor_name
from bench.measure import Row
from livebackend.core.cpu_count import available_cpus
from livebackend.database.engine import Database

_RESULTS = Path(__file__).with_name("RESULTS.md")
_PACKAGES = ["pyramid", "SQLAlchemy", "psycopg2-binary", "orjson", "granian", "bcrypt"]
_PACKAGES += ["fastapi", "uvicorn", "uvloop", "asyncpg"]
# Servers with which livebackend is compared, if they were measured.
_CPU_REFERENCES = ("before", "baseline", "external", "FastAPI")
_P99_REFERENCES = ("baseline", "external")


def format_table(rows: list[Row], notes: dict[str, str]) -> str:
    """Return a Markdown table of the rows, followed by the notes.

    A ratio is livebackend's CPU time, or its 99th percentile, divided by that of another server.
    Both CPU times include PostgreSQL.
    """
    servers = {row.server for row in rows}
    ratios = [
        *((f"CPU ÷ {name}", name, _cpu) for name in _CPU_REFERENCES if name in servers),
        *((f"p99 ÷ {name}", name, _p99_ms) for name in _P99_REFERENCES if name in servers),
    ]
    columns = ["measurement", "server", "requests/s", "p50 ms", "p99 ms"]
    columns += ["CPU ms: server + PostgreSQL", "SQL statements", *(title for title, *_ in ratios)]
    lines = [f"| {' | '.join(columns)} |", "|---|---|" + "--:|" * (len(columns) - 2)]
    for row in rows:
        references = {other.server: other for other in rows if other.measurement == row.measurement}
        cells = [row.measurement, row.server, f"{row.rate:.0f}", f"{row.p50_ms:.1f}"]
        cells += [f"{row.p99_ms:.1f}", f"{row.server_cpu:.3f} + {row.postgres_cpu:.3f}"]
        cells.append("" if row.statements is None else f"{row.statements:.1f}")
        for _, name, value in ratios:
            is_compared = row.server == "livebackend" and name in references
            cells.append(_ratio(value(row), value(references[name])) if is_compared else "")
        lines.append(f"| {' | '.join(cells)} |")
    ratios_to_before = [
        f"{row.measurement} {_ratio(row.cpu, before.cpu)}"
        for row in rows
        for before in rows
        if (row.server, before.server) == ("livebackend", "before")
        and row.measurement == before.measurement
    ]
    if ratios_to_before:
        notes = {**notes, "CPU ÷ before": "; ".join(ratios_to_before)}
    return "\n".join([*lines, "", *(f"* {name}: {note}" for name, note in notes.items())])


def _ratio(value: float, reference: float) -> str:
    return f"{value / reference:.2f}" if reference else "–"


def _cpu(row: Row) -> float:
    return row.cpu


def _p99_ms(row: Row) -> float:
    return row.p99_ms


def write_results(rows: list[Row], notes: dict[str, str], database: Database) -> None:
    with database.engine.connect() as connection:
        postgres_version = connection.execute(text("SHOW server_version")).scalar_one()
    wrk_output = run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    wrk_version = wrk_output.split(" [")[0]
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    _RESULTS.write_text(
        f"# Benchmark results\n\n"
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}. {processor_name()},"
        f" {available_cpus()} cores shared by server, PostgreSQL and load generator;"
        f" {platform.system()} {platform.release()}."
        f" Python {platform.python_version()}, PostgreSQL {postgres_version}, {wrk_version};"
        f" {packages}.\n\n"
        "CPU times are in milliseconds per request, and SQL statements are per request. If other"
        " programs use the machine, CPU times vary less than request rates. Compare only results of"
        " the same run. The baseline (bench/baseline_wsgi.py) uses no framework; it prepares the"
        ' same statements, and does not batch gifts. The server "password hash" is the baseline'
        ' server, which for these requests only hashes a password. The server "before" is an'
        " earlier version of livebackend.\n\n"
        f"{format_table(rows, notes)}\n",
        "utf-8",
    )
