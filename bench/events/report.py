"""Writes the results of each measurement as a section of bench/EVENTS.md."""

import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from bench.events.rows import Results, format_capacities, format_rows
from bench.machine import processor_name
from livebackend.core.cpu_count import available_cpus

_FILE = Path(__file__).parent.with_name("EVENTS.md")
_HEAD = (
    "# Results of live events\n\n"
    "Written by `make bench-events`, which [benchmarks](../docs/benchmarks.md#make-bench-events)"
    " describes. Nchan has the configuration of deploy/, with TLS and the proxy in front of Nchan."
    " The engine, livebackend, PostgreSQL and the clients share the processor.\n"
)
_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n)*)", re.MULTILINE)


def format_section(results: Results, load_average: float) -> str:
    """Return the date, the machine and the tables of one measurement."""
    tables = [format_rows(results.rows)]
    if results.capacities:
        tables.insert(0, format_capacities(results.capacities))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {processor_name()}, {available_cpus()} cores,"
        f" {platform.system()} {platform.release()}. Load average before the measurement:"
        f" {load_average:.1f}.\n\n" + "\n\n".join(tables) + "\n"
    )


def write_sections(sections: dict[str, str], titles: list[str], file: Path = _FILE) -> None:
    """Replace these sections of the file, whose sections are in the order of `titles`."""
    old_text = file.read_text("utf-8") if file.exists() else ""
    old_sections = {title: body.strip() + "\n" for title, body in _SECTION.findall(old_text)}
    all_sections = old_sections | sections
    parts = [f"## {title}\n\n{all_sections[title]}" for title in titles if title in all_sections]
    file.write_text("\n".join([_HEAD, *parts]), "utf-8")
