"""`livebackend demo-data`: generated users for development and benchmarks."""

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

from livebackend.cli.ini_file import ini_argument, load_settings, opened_services
from livebackend.cli.output import CommandFailed, json_option, print_result
from livebackend.cli.user import new_password
from livebackend.development.demo_data import MAX_USERS, DemoData, StageProgress
from livebackend.development.streams import DevelopmentStreams
from livebackend.services.operator_accounts import any_account_exists

_LINE_INTERVAL_S = 5.0


@click.command("demo-data")
@ini_argument
@click.option("--users", type=click.IntRange(1, MAX_USERS), required=True, help="Number of users.")
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="Random seed; the same seed creates the same users.",
)
@click.option("--password", help="Password of all users; default: a random password.")
@click.option("--allow-existing", is_flag=True, help="Run even if accounts exist.")
@json_option
def demo_data(
    ini: Path, *, users: int, seed: int, password: str | None, allow_existing: bool
) -> None:
    """Create users with friends, friend requests, coins and rooms.

    Example: livebackend demo-data development.ini --users 1000
    """
    password = password or new_password()
    started_at = time.monotonic()
    with opened_services(ini) as services:
        if not allow_existing and services.database.run(any_account_exists):
            raise CommandFailed(
                "the database already contains accounts;"
                " add --allow-existing to create users anyway"
            )
        data = DemoData(
            services.database,
            DevelopmentStreams(hub=load_settings(ini).streams_hub, clock=time.time),
            users=users,
            seed=seed,
            password_hash=services.password_hashing.hash(password),
        )
        _show_progress(data.generate())
    print_result(
        f"created {users:,} users in {time.monotonic() - started_at:.1f} s, with the phones"
        f" {data.phone(0)} to {data.phone(users - 1)} and the password {password}",
        users=users,
        first_phone=data.phone(0),
        last_phone=data.phone(users - 1),
        password=password,
        seconds=round(time.monotonic() - started_at, 1),
    )


def _show_progress(updates: Iterator[StageProgress]) -> None:
    """Report progress on stderr: bars on a terminal, otherwise plain lines."""
    console = Console(stderr=True)
    if console.is_terminal:
        _draw_bars(updates, console)
    else:
        _print_lines(updates)


class _UsersPerSecondColumn(ProgressColumn):
    """A column with the number of users per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f}/s")


def _draw_bars(updates: Iterator[StageProgress], console: Console) -> None:
    bar_columns = (
        TextColumn("{task.description:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        _UsersPerSecondColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*bar_columns, console=console) as progress:
        task_ids = {}
        for update in updates:
            if update.stage not in task_ids:
                task_ids[update.stage] = progress.add_task(update.stage, total=update.total)
            progress.update(task_ids[update.stage], completed=update.done)


def _print_lines(updates: Iterator[StageProgress]) -> None:
    stage, stage_started_at, last_line_at = "", 0.0, 0.0
    for update in updates:
        now = time.monotonic()
        if update.stage != stage:
            stage, stage_started_at, last_line_at = update.stage, now, now
        if update.done == update.total or now - last_line_at > _LINE_INTERVAL_S:
            last_line_at = now
            seconds = now - stage_started_at
            click.echo(f"{stage}: {update.done:,} of {update.total:,}, {seconds:.1f} s", err=True)
