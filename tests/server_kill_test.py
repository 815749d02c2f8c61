"""Kill test of a server with live events, run by `make relay-kill-test`.

Five clients receive their events through nginx with Nchan. Four writers append events, while
livebackend and its workers are killed with SIGKILL at random times and started again. At the end,
the clients must have each committed event, in order, and a repeated event must be unchanged.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from tests.relay_kill_test import Report
from tests.support.event_engines import RunningEngine, nchan_engine
from tests.support.event_streams import StreamClient
from tests.support.event_writers import (
    committed_count,
    find_errors,
    running_writers,
    wait_until_empty,
)

_CLIENT_COUNT = 5
# Seconds until a started server must publish, and until the clients must have received all events.
_START_TIMEOUT_S = 60
_RECEIVE_TIMEOUT_S = 20


def run_server_kill_test(
    running: RunningEngine, database: Database, *, kills: int, seed: int
) -> Report:
    """Kill the server under writers. The outbox must be empty at the start."""
    rng = random.Random(seed)
    users = [running.new_user() for _ in range(_CLIENT_COUNT)]
    with ExitStack() as stack:
        clients = [stack.enter_context(user.open()) for user in users]
        accounts = [user.account_id for user in users]
        with running_writers(database, accounts) as writers:
            for _ in range(kills):
                _wait_for_events(clients)
                time.sleep(rng.uniform(0, 0.5))
                running.restart_server()
            _wait_for_events(clients)
        is_empty = wait_until_empty(database, timeout_s=_START_TIMEOUT_S)
        lines = [
            line
            for client, account_id in zip(clients, accounts, strict=True)
            for line in _received_lines(
                client, sum(len(writer.committed[account_id]) for writer in writers)
            )
        ]
    errors = [] if is_empty else ["the outbox did not become empty"]
    errors += find_errors(lines, writers)
    return Report(committed_count(writers), kills, len(lines) - len(set(lines)), errors)


def _wait_for_events(clients: Sequence[StreamClient]) -> None:
    """Wait until a client receives a new event."""
    counts = [client.events.qsize() for client in clients]
    deadline = time.monotonic() + _START_TIMEOUT_S
    while counts == [client.events.qsize() for client in clients]:
        if time.monotonic() > deadline:
            raise AssertionError("no client receives events")
        time.sleep(0.01)


def _received_lines(client: StreamClient, last_number: int) -> list[bytes]:
    """Return the events of a client up to the one with the last number, or until none follows."""
    lines: list[bytes] = []
    numbers = set()
    deadline = time.monotonic() + _RECEIVE_TIMEOUT_S
    while time.monotonic() < deadline and (last_number not in numbers or client.events.qsize()):
        if client.events.qsize():
            event = client.next()
            lines.append(event.data.encode())
            numbers.add(event.body["seq"])
        else:
            time.sleep(0.01)
    return lines


@click.command()
@click.option("--kills", default=20, help="number of times that the server is killed")
@click.option(
    "--seed", type=int, help="seed of the random numbers; by default a new one, which is printed"
)
def main(kills: int, seed: int | None) -> None:
    """Kill a server under writers; check every event that the clients receive."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="livebackend-kill-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # the workers of nginx can have another user
        postgres = EmbeddedPostgres(folder / "postgres")
        url = postgres.start()
        stack.callback(postgres.close)
        database = Database(url)
        stack.callback(database.close)
        migrate(database)
        (folder / "engine").mkdir()
        running = stack.enter_context(nchan_engine(folder / "engine", url))
        report = run_server_kill_test(running, database, kills=kills, seed=seed)
    report.print()


if __name__ == "__main__":
    main()
