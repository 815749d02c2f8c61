"""Prints the table of the faults."""

import click

from tests.chaos.classification import Outcome
from tests.chaos.observation import Observation
from tests.chaos.rows import Limits, Row

_COLUMNS = (
    ("fault", -44),
    ("sent", 6),
    ("answered", 9),
    ("refused", 8),
    ("wrong", 6),
    ("lost", 5),
    ("longest ms", 11),
    ("p99 ms", 7),
    ("recovered s", 12),
    ("/readyz s", 10),
    ("row took s", 11),
    ("", 8),
)


def print_head() -> None:
    _print_cells([name for name, _ in _COLUMNS])


def print_row(name: str, limits: Limits, observation: Observation, duration_s: float) -> bool:
    """Print the figures of a row and what is wrong; return whether all limits hold.

    `duration_s` includes the start and the stop of servers.
    """
    problems = limits.exceeded(observation) + observation.errors
    agreement_s = observation.agreement_s
    _print_cells(
        [
            name,
            str(len(observation.results)),
            *(str(observation.count(outcome)) for outcome in Outcome),
            f"{observation.longest_s * 1000:.0f}",
            f"{observation.p99_s * 1000:.0f}",
            f"{observation.recovery_s:.1f}",
            "-" if agreement_s is None else f"{agreement_s:.1f}",
            f"{duration_s:.0f}",
            "FAILED" if problems else "ok",
        ]
    )
    for note in observation.notes:
        click.echo(f"    {note}")
    if observation.stale_count:
        click.echo(f"    {observation.stale_count} requests sent again: connection was closed")
    for problem in problems[:5]:
        click.echo(f"    FAILED {problem}")
    if problems:
        for outcome in (Outcome.REFUSED, Outcome.WRONG, Outcome.LOST):
            for example in observation.examples(outcome):
                click.echo(f"    {outcome.value}: {example}")
    return not problems


def print_skipped(row: Row, reason: str) -> None:
    click.echo(f"{row.name:44} skipped: {reason}")


def _print_cells(cells: list[str]) -> None:
    texts = [
        f"{cell:{-width}}" if width < 0 else f"{cell:>{width}}"
        for cell, (_, width) in zip(cells, _COLUMNS, strict=True)
    ]
    click.echo(" ".join(texts))
