"""`livebackend demo-data`: people who are made up."""

import time
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from livebackend.cli.ini import ini_argument, load, opened_services
from livebackend.cli.output import Fault, json_option, say
from livebackend.cli.user import new_password
from livebackend.development.demo_data import USERS_MAX, DemoData, Step
from livebackend.development.streams import DevelopmentStreams
from livebackend.services.operator_accounts import are_there_any

_LINE_EVERY_S = 5.0


@click.command("demo-data")
@ini_argument
@click.option("--users", type=click.IntRange(1, USERS_MAX), required=True, help="How many people.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same makes the same.")
@click.option("--password", help="Everybody's; a fresh one is printed if there is none.")
@click.option("--among-others", is_flag=True, help="Even where people have registered.")
@json_option
def demo_data(
    ini: Path, *, users: int, seed: int, password: str | None, among_others: bool
) -> None:
    """Make up people with friends, requests, coins and rooms, to try and to measure with.

    Example: livebackend demo-data development.ini --users 1000
    """
    password = password or new_password()
    start = time.monotonic()
    with opened_services(ini) as services:
        if not among_others and services.database.run(are_there_any):
            raise Fault("people have registered here already; --among-others if that is meant")
        data = DemoData(
            services.database,
            DevelopmentStreams(hub=load(ini).streams_hub, clock=time.time),
            users=users,
            seed=seed,
            password_hash=services.password_hashing.hash(password),
        )
        _watch(data.fill())
    say(
        f"{users:,} people in {time.monotonic() - start:.1f} s, from {data.phone(0)} to"
        f" {data.phone(users - 1)}, all with the password {password}",
        users=users,
        first_phone=data.phone(0),
        last_phone=data.phone(users - 1),
        password=password,
        seconds=round(time.monotonic() - start, 1),
    )


def _watch(steps: Iterator[Step]) -> None:
    """Shows on a terminal how far it is; elsewhere a line now and then, on standard error."""
    console = Console(stderr=True)
    if console.is_terminal:
        _draw(steps, console)
    else:
        _write_lines(steps)


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f}/s")


def _draw(steps: Iterator[Step], console: Console) -> None:
    shown = (
        TextColumn("{task.description:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*shown, console=console) as progress:
        tasks = {}
        for step in steps:
            if step.stage not in tasks:
                tasks[step.stage] = progress.add_task(step.stage, total=step.total)
            progress.update(tasks[step.stage], completed=step.done)


def _write_lines(steps: Iterator[Step]) -> None:
    stage, began, told = "", 0.0, 0.0
    for step in steps:
        now = time.monotonic()
        if step.stage != stage:
            stage, began, told = step.stage, now, now
        if step.done == step.total or now - told > _LINE_EVERY_S:
            told = now
            click.echo(f"{stage}: {step.done:,} of {step.total:,}, {now - began:.1f} s", err=True)
