"""A server of a comparison, with a PostgreSQL of its own, whose CPU time can be measured."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench.events.engines import NCHAN, EngineBench, running_engine
from bench.machine import cpu_ms, process_tree
from livebackend.development.embedded_postgres import EmbeddedPostgres


@dataclass
class Side:
    """A server that publishes to nginx with Nchan."""

    bench: EngineBench
    postmaster: int

    def total_cpu_ms(self) -> float:
        """Return the CPU time of the server and of its PostgreSQL, without the engine."""
        return cpu_ms(process_tree(self.bench.running.server.process.pid, self.postmaster))


def start_side(
    name: str,
    folder: Path,
    stack: ExitStack,
    changed_settings: Mapping[str, str] = MappingProxyType({}),
) -> Side:
    """Start a PostgreSQL, an nginx and a server, until `stack` is closed."""
    postgres_folder = folder / f"postgres-{name}"
    postgres = EmbeddedPostgres(postgres_folder)
    postgres.start()
    stack.callback(postgres.close)
    bench = stack.enter_context(
        running_engine(NCHAN, postgres, folder / f"engine-{name}", changed_settings)
    )
    postmaster = int((postgres_folder / "postmaster.pid").read_text().split()[0])
    return Side(bench, postmaster)
