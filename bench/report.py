"""The table of all rows, and the file that keeps it."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from subprocess import run

from sqlalchemy import text

from bench.machine import processor
from bench.measure import Row
from livebackend.database.engine import Database

_RESULTS = Path(__file__).with_name("RESULTS.md")
_PACKAGES = ["pyramid", "SQLAlchemy", "psycopg2-binary", "orjson", "granian", "bcrypt"]
_PACKAGES += ["fastapi", "uvicorn", "uvloop", "asyncpg"]
_HEAD = (
    "| row | server | req/s | p50 ms | p99 ms | failed | CPU-ms server | CPU-ms PostgreSQL |"
    " statements | × floor | × peer |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def table(rows: list[Row], facts: dict[str, str]) -> str:
    """The rows as Markdown; a ratio is of the CPU of server and PostgreSQL together."""
    lines = [_HEAD]
    for row in rows:
        beside = {other.server: other for other in rows if other.name == row.name}
        ratios = [
            f"{row.cpu / beside[other].cpu:.2f}" if row.server == "ours" and other in beside else ""
            for other in ("floor", "peer")
        ]
        statements = "" if row.statements is None else f"{row.statements:.1f}"
        cells = [
            *(row.name, row.server, f"{row.rate:.0f}", f"{row.p50_ms:.1f}", f"{row.p99_ms:.1f}"),
            *(str(row.failed), f"{row.server_cpu:.3f}", f"{row.postgres_cpu:.3f}"),
            *(statements, *ratios),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"* {name}: {fact}" for name, fact in facts.items())])


def write(rows: list[Row], facts: dict[str, str], database: Database) -> None:
    with database.engine.connect() as connection:
        postgres = connection.execute(text("SHOW server_version")).scalar_one()
    wrk = run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split(" [")[0]
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    _RESULTS.write_text(
        f"# What it costs\n\n"
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}. {processor()},"
        f" {os.cpu_count()} cores shared by server, PostgreSQL and load;"
        f" {platform.system()} {platform.release()}."
        f" Python {platform.python_version()}, PostgreSQL {postgres}, {wrk}; {packages}.\n\n"
        "CPU is milliseconds for a request. It holds better than rates where others use the"
        " machine; compare within one run only. The floor sends our statements as text, which is"
        " all that psycopg2 does; ours are prepared, and so are the peer's, by asyncpg. The floor's"
        " gifts are not batched. \"hash\" is a login's hash alone, in the floor's server.\n\n"
        f"{table(rows, facts)}\n",
        "utf-8",
    )
