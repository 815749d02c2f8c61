"""Format the results as a table and write bench/RESULTS.md."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from subprocess import run

from sqlalchemy import text

from bench.machine import processor_name
from bench.measure import Row
from livebackend.database.engine import Database

_RESULTS = Path(__file__).with_name("RESULTS.md")
_PACKAGES = ["pyramid", "SQLAlchemy", "psycopg2-binary", "orjson", "granian", "bcrypt"]
_PACKAGES += ["fastapi", "uvicorn", "uvloop", "asyncpg"]
_HEAD = (
    "| measurement | server | requests/s | p50 ms | p99 ms | failed | server CPU ms |"
    " PostgreSQL CPU ms | SQL statements | CPU ÷ baseline | CPU ÷ FastAPI |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def format_table(rows: list[Row], notes: dict[str, str]) -> str:
    """Return a Markdown table of the rows, followed by the notes.

    A ratio is livebackend's CPU time divided by that of another server. Both CPU times include
    PostgreSQL.
    """
    lines = [_HEAD]
    for row in rows:
        row_by_server = {
            other_row.server: other_row
            for other_row in rows
            if other_row.measurement == row.measurement
        }
        ratios = [
            f"{row.cpu / row_by_server[reference_server].cpu:.2f}"
            if row.server == "livebackend" and reference_server in row_by_server
            else ""
            for reference_server in ("baseline", "FastAPI")
        ]
        statements = "" if row.statements is None else f"{row.statements:.1f}"
        cells = [
            *(
                row.measurement,
                row.server,
                f"{row.rate:.0f}",
                f"{row.p50_ms:.1f}",
                f"{row.p99_ms:.1f}",
            ),
            *(str(row.failed), f"{row.server_cpu:.3f}", f"{row.postgres_cpu:.3f}"),
            *(statements, *ratios),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"* {name}: {note}" for name, note in notes.items())])


def write_results(rows: list[Row], notes: dict[str, str], database: Database) -> None:
    with database.engine.connect() as connection:
        postgres_version = connection.execute(text("SHOW server_version")).scalar_one()
    wrk_output = run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    wrk_version = wrk_output.split(" [")[0]
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    _RESULTS.write_text(
        f"# Benchmark results\n\n"
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}. {processor_name()},"
        f" {os.cpu_count()} cores shared by server, PostgreSQL and load generator;"
        f" {platform.system()} {platform.release()}."
        f" Python {platform.python_version()}, PostgreSQL {postgres_version}, {wrk_version};"
        f" {packages}.\n\n"
        "CPU times are in milliseconds per request, and SQL statements are per request. If other"
        " programs use the machine, CPU times vary less than request rates. Compare only results of"
        " the same run. The baseline (bench/baseline_wsgi.py) uses no framework; the baseline sends"
        " livebackend's statements as text, because psycopg2 does not prepare statements, and does"
        " not batch gifts. livebackend and asyncpg (in the FastAPI server) prepare statements. The"
        ' server "password hash" is the baseline server, which for these requests only hashes a'
        " password.\n\n"
        f"{format_table(rows, notes)}\n",
        "utf-8",
    )
