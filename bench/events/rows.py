"""The results of the measurements, and their tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Row(NamedTuple):
    """A measurement that has a bound, or only figures if `is_met` is None."""

    measurement: str
    engine: str
    result: str
    bound: str = ""
    is_met: bool | None = None


class Capacity(NamedTuple):
    """What an engine needs for a subscriber and for a delivery of an event to a subscriber."""

    engine: str
    subscribers: int
    idle_mb: float
    kb_per_subscriber: float
    idle_cpu_us_per_second: float
    cpu_us_per_delivery: float
    p99_ms: float
    deliveries_per_second: float
    cores: float


@dataclass
class Results:
    """Collects and prints the results."""

    rows: list[Row] = field(default_factory=list)
    capacities: list[Capacity] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        mark = {True: "", False: "MISSED: ", None: ""}[row.is_met]
        bound = f" ({row.bound})" if row.bound else ""
        print(f"{mark}{row.measurement}, {row.engine}: {row.result}{bound}", flush=True)

    def add_capacity(self, capacity: Capacity) -> None:
        self.capacities.append(capacity)
        print(capacity, flush=True)

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if row.is_met is False]


def format_rows(rows: Sequence[Row]) -> str:
    lines = ["| measurement | engine | result | bound | met |", "|---|---|---|---|---|"]
    met = {True: "yes", False: "**no**", None: ""}
    lines += [
        f"| {row.measurement} | {row.engine} | {row.result} | {row.bound} | {met[row.is_met]} |"
        for row in rows
    ]
    return "\n".join(lines)


def format_capacities(capacities: Sequence[Capacity]) -> str:
    """Return a table with a line for each engine."""
    titles = ["engine", "subscribers", "MB without subscribers", "kB per subscriber"]
    titles += ["idle: CPU µs per subscriber and second", "CPU µs per delivery"]
    titles += ["p99 ms at 10 events/s", "most deliveries/s", "cores of the engine"]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "--:|" * (len(titles) - 1)]
    lines += [
        f"| {c.engine} | {c.subscribers} | {c.idle_mb:.0f} | {c.kb_per_subscriber:.0f} |"
        f" {c.idle_cpu_us_per_second:.0f} | {c.cpu_us_per_delivery:.0f} | {c.p99_ms:.0f} |"
        f" {c.deliveries_per_second:.0f} | {c.cores:.1f} |"
        for c in capacities
    ]
    return "\n".join(lines)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value below which `percent` of the values are; infinity without values."""
    ordered = sorted(values)
    return (
        ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("inf")
    )
