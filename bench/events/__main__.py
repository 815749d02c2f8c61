"""`make bench-events`: live events under load, for each event engine.

The engines run with the files of deploy/, on the loopback interface. The exit code is 1 if a bound
is missed.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from bench.events.capacity import measure_capacity
from bench.events.clients import compiled_program
from bench.events.engine_away import measure_engine_away
from bench.events.engines import NCHAN, EngineBench, available_engines, running_engine
from bench.events.gift_cost import measure_gift_cost
from bench.events.latency import measure_latency
from bench.events.recovery import measure_recovery
from bench.events.report import format_section, write_sections
from bench.events.rows import Results, Row
from bench.events.slow_subscribers import measure_slow_subscribers
from livebackend.development.embedded_postgres import EmbeddedPostgres


class _Measurement(NamedTuple):
    title: str
    measure: Callable[[EngineBench, Results], None]
    is_nchan_only: bool = False


_MEASUREMENTS = {
    # The first one: later, memory that was used before could hide the growth.
    "slow_subscribers": _Measurement("Subscribers that never read", measure_slow_subscribers),
    "capacity": _Measurement("Subscribers of an engine", measure_capacity),
    "recovery": _Measurement("Clients that break off and resume", measure_recovery),
    "latency": _Measurement("From the COMMIT to the client", measure_latency, is_nchan_only=True),
}
_GIFT_COST, _GIFT_COST_TITLE = "gift_cost", "CPU time of a gift"
_AWAY, _AWAY_TITLE = "engine_away", "Requests while the engine is away"
_NAMES = [*_MEASUREMENTS, _GIFT_COST, _AWAY]
_TITLES = [measurement.title for measurement in _MEASUREMENTS.values()]
_TITLES += [_GIFT_COST_TITLE, _AWAY_TITLE]


@click.command()
@click.option(
    "--away-seconds", default=60.0, help="seconds for which the engine is away", show_default=True
)
@click.option("--only", multiple=True, type=click.Choice(_NAMES), help="run this measurement")
def main(away_seconds: float, only: tuple[str, ...]) -> None:
    """Measure live events; write the results to bench/EVENTS.md."""
    names = [name for name in _NAMES if name in only or not only]
    load_average = os.getloadavg()[0]
    results: dict[str, Results] = {}
    with tempfile.TemporaryDirectory(prefix="livebackend-bench-events-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # another system user can run PostgreSQL
        compiled_program(folder)
        measure_engines(names, folder, results)
        if _GIFT_COST in names and NCHAN in available_engines():
            results[_GIFT_COST_TITLE] = Results()
            measure_gift_cost(folder, results[_GIFT_COST_TITLE])
        if _AWAY in names and NCHAN in available_engines():
            results[_AWAY_TITLE] = Results()
            measure_engine_away(folder, results[_AWAY_TITLE], away_s=away_seconds)
    sections = {title: format_section(part, load_average) for title, part in results.items()}
    write_sections(sections, _TITLES)
    missed: list[Row] = [row for part in results.values() for row in part.missed]
    if missed:
        raise SystemExit(f"bounds missed: {'; '.join(row.measurement for row in missed)}")


def measure_engines(names: list[str], folder: Path, results: dict[str, Results]) -> None:
    """Run the measurements with each engine, one engine after the other."""
    measurements = [_MEASUREMENTS[name] for name in names if name in _MEASUREMENTS]
    if not measurements:
        return
    postgres = EmbeddedPostgres(folder / "postgres")
    postgres.start()
    try:
        for number, engine in enumerate(available_engines()):
            with running_engine(engine, postgres, folder / f"engine-{number}") as bench:
                for title, measure, is_nchan_only in measurements:
                    if engine == NCHAN or not is_nchan_only:
                        measure(bench, results.setdefault(title, Results()))
    finally:
        postgres.close()


if __name__ == "__main__":
    main()
