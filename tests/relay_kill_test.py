"""Kill test of the relay, run by `make relay-kill-test`.

Four writers append events to five channels. Two processes with a relay are killed with SIGKILL, or
stopped with SIGSTOP for longer than their lease, at random times. At the end, each committed event
must be published, a repeated event must have the same number and content, and each channel must
have all numbers in order.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.events.channels import open_channel, user_channel
from tests.support.event_writers import (
    committed_count,
    find_errors,
    running_writers,
    wait_until_empty,
)
from tests.support.relay_process import LEASE_TTL_S

ACCOUNTS = range(1, 6)
RELAY_COUNT = 2
# Seconds after the last kill until all events must be published.
_END_TIMEOUT_S = 60


@dataclass
class Report:
    """The result of a run; `errors` is empty if the relay works."""

    events: int
    kills: int
    repeated: int
    errors: list[str]

    def print(self) -> None:
        """Print the result; raise SystemExit(1) if there are errors."""
        click.echo(
            f"{self.events} events committed, {self.kills} kills, {self.repeated} events repeated"
        )
        for error in self.errors[:20]:
            click.echo(f"ERROR: {error}")
        if self.errors:
            raise SystemExit(1)
        click.echo("no event was lost, repeats have the same number, all numbers are in order")


def run_kill_test(url: str, folder: Path, *, kills: int, seed: int) -> Report:
    """Kill relays under writers. The tables of the events must be empty at the start."""
    database = Database(url)
    for account_id in ACCOUNTS:
        database.run(partial(open_channel, name=user_channel(account_id)))
    published_file = folder / "published"
    with running_writers(database, ACCOUNTS) as writers:
        _kill_relays(url, published_file, kills=kills, rng=random.Random(seed))
    # The relays have been stopped too: another one publishes the rest.
    with _relays(url, published_file, count=1):
        is_empty = wait_until_empty(database, timeout_s=_END_TIMEOUT_S)
    database.close()
    lines = published_file.read_bytes().splitlines()
    repeated = len(lines) - len(set(lines))
    errors = [] if is_empty else ["the outbox did not become empty"]
    return Report(committed_count(writers), kills, repeated, errors + find_errors(lines, writers))


@contextmanager
def _relays(
    url: str, published_file: Path, *, count: int
) -> Iterator[list[subprocess.Popen[bytes]]]:
    relays = [_start_relay(url, published_file) for _ in range(count)]
    try:
        yield relays
    finally:
        for relay in relays:
            _kill(relay)


def _start_relay(url: str, published_file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.relay_process", url, str(published_file)]
    return subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE)


def _kill(relay: subprocess.Popen[bytes]) -> None:
    relay.kill()
    relay.communicate()


def _kill_relays(url: str, published_file: Path, *, kills: int, rng: random.Random) -> None:
    """Kill a relay while it publishes, start another one, and repeat."""
    with _relays(url, published_file, count=RELAY_COUNT) as relays:
        for _ in range(kills):
            _wait_for_growth(published_file)
            _stop_for_a_while(rng.choice(relays), rng)
            _wait_for_growth(published_file)
            time.sleep(rng.uniform(0, 0.5))
            # All are killed, because only one of them publishes.
            for index, relay in enumerate(relays):
                _kill(relay)
                relays[index] = _start_relay(url, published_file)
        _wait_for_growth(published_file)


def _stop_for_a_while(relay: subprocess.Popen[bytes], rng: random.Random) -> None:
    """Stop a relay at a random time; the other one gets the lease if this one has it."""
    time.sleep(rng.uniform(0, 0.5))
    relay.send_signal(signal.SIGSTOP)
    time.sleep(LEASE_TTL_S + rng.uniform(0, 2))
    relay.send_signal(signal.SIGCONT)


def _wait_for_growth(file: Path) -> None:
    size = file.stat().st_size if file.exists() else 0
    deadline = time.monotonic() + _END_TIMEOUT_S
    while not file.exists() or file.stat().st_size == size:
        if time.monotonic() > deadline:
            raise AssertionError("no event was published")
        time.sleep(0.01)


@click.command()
@click.option("--kills", default=20, help="number of times that the relays are killed")
@click.option(
    "--seed", type=int, help="seed of the random numbers; by default a new one, which is printed"
)
def main(kills: int, seed: int | None) -> None:
    """Kill relays under writers; check every published event."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"seed {seed}")
    with (
        tempfile.TemporaryDirectory(prefix="livebackend relay kill test ") as name,
        ExitStack() as cleanup,
    ):
        postgres = EmbeddedPostgres(Path(name) / "postgres")
        url = postgres.start()
        cleanup.callback(postgres.close)
        database = Database(url)
        migrate(database)
        database.close()
        report = run_kill_test(url, Path(name), kills=kills, seed=seed)
    report.print()


if __name__ == "__main__":
    main()
