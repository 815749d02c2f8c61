"""Crash test of the ledger under load: `make ledger-crash-test`.

Clients send random gifts and refills over HTTP to two servers. Meanwhile the servers and PostgreSQL
are killed at random times. If there is no response, a client retries with the same request id. A
reader continuously checks the sum of all coins. At the end, every confirmed request must have
exactly one transfer, and a rejected request must have no transfer.

A power failure is not simulated: the operating system still writes the data of killed processes.
"""

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from livebackend.database.engine import Database
from livebackend.ledger.audit import audit
from livebackend.ledger.coin_accounts import open_account
from livebackend.ledger.transfers import client_request_id
from livebackend.services.login_tokens import CurrentUser, LoginTokens
from livebackend_client import (
    Client,
    ErrorReason,
    InvalidResponse,
    OperationRefused,
    ServerUnavailable,
)
from tests.support.application import DEVELOPMENT_INI, DEVELOPMENT_SECRET
from tests.support.postgres_node import Node, create_data_directory, socket_directory
from tests.support.servers import free_port, start_server, wait_until_up

CLIENT_COUNT = 32
USER_COUNT = 40
# Longer than the slowest response: a client must not retry a request that a server still processes.
RESPONSE_TIMEOUT_S = 15
RETRY_FOR_S = 60

_COIN_SUMS = text(
    """
    SELECT (SELECT coalesce(sum(amount), 0) FROM coin_slots)
        - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE kind = 2) AS surplus,
        (SELECT coalesce(min(amount), 0) FROM coin_slots) AS minimum
    """
)
_INSERT_USER = text("INSERT INTO accounts (phone, password_hash) VALUES (:phone, 'x') RETURNING id")
_SELECT_TRANSFERS = text("SELECT actor_id, request_id, amount FROM transfers")
_SELECT_ACTORS = text("SELECT owner_id, id FROM coin_accounts WHERE owner_id IS NOT NULL")


@dataclass
class Request:
    """A request of a client, and its final result code."""

    account_id: int
    request_id: str
    method: Callable[..., object]
    params: dict[str, Any]
    coins: int
    result: str | None = None
    retry_count: int = 0


@dataclass
class Run:
    """The clients and the reader of one run, and their observations."""

    seed: int
    deadline: float
    ports: Sequence[int]
    phones: dict[int, str]
    tokens: dict[int, str]
    requests: list[Request] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    kill_counts: Counter[str] = field(default_factory=Counter)
    sum_check_count: int = 0

    def run_client(self, client_number: int) -> None:
        """Send random requests one by one; retry each until its outcome is known."""
        rng = random.Random(self.seed * 1000 + client_number)
        while time.monotonic() < self.deadline:
            request = self.random_request(
                rng, f"{client_number}-{len(self.requests)}-{rng.random()}"
            )
            self.requests.append(request)
            retry_until = time.monotonic() + RETRY_FOR_S
            while request.result is None and time.monotonic() < retry_until:
                request.result = self.send(request, rng.choice(self.ports))
                if request.result is None:
                    request.retry_count += 1
                    time.sleep(0.05)
            if request.result is None:
                self.errors.append(
                    f"request {request.request_id} got no response within {RETRY_FOR_S} s"
                )

    def random_request(self, rng: random.Random, request_id: str) -> Request:
        account_id, host_id = rng.sample(list(self.phones), 2)
        if rng.random() < 0.5:
            host_id = min(self.phones)  # one host receives half of the gifts
        if rng.random() < 0.2 or host_id == account_id:
            money = rng.choice([10, 50, 100])
            return Request(account_id, request_id, Client.refill, {"money": money}, money)
        coins = rng.randint(1, 40)
        gift = {"object": self.phones[host_id], "value": coins, "description": "a rose"}
        return Request(account_id, request_id, Client.send_gift, gift, coins)

    def send(self, request: Request, port: int) -> str | None:
        """Send a request; return its result code, or None if the outcome is unknown."""
        with Client(
            f"http://127.0.0.1:{port}",
            token=self.tokens[request.account_id],
            timeout_s=RESPONSE_TIMEOUT_S,
            max_attempts=1,
        ) as client:
            try:
                request.method(client, request_id=request.request_id, **request.params)
            except (InvalidResponse, ServerUnavailable):
                return None
            except OperationRefused as error:
                if error.reason == ErrorReason.LEDGER_BUSY:
                    return None
                if error.status != 200:
                    self.errors.append(
                        f"response to {request.request_id}: status {error.status}, {error}"
                    )
                return error.code
        return "0000"

    def check_sums(self, url: str) -> None:
        """Until the deadline, check that coins equal refills and no shard is negative."""
        engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 2})
        while time.monotonic() < self.deadline:
            with suppress(DBAPIError), engine.connect() as connection:
                row = connection.execute(_COIN_SUMS).one()
                self.sum_check_count += 1
                if row.surplus or row.minimum < 0:
                    self.errors.append(
                        f"the sum of all coins exceeds the refills by {row.surplus},"
                        f" and the smallest coin slot has {row.minimum} coins"
                    )
            time.sleep(0.02)
        engine.dispose()


class Postgres:
    """A durable PostgreSQL server that is started again after it is killed."""

    def __init__(self, folder: Path, socket_root: Path) -> None:
        account = create_data_directory(folder / "postgres")
        self._node = Node("postgres", folder, socket_root, account, durable=True)
        self.url = self._node.url
        self._node.start()

    def kill(self) -> None:
        """Kill all processes of the server, and start it again."""
        self._node.kill()
        self._node.start()

    def close(self) -> None:
        self._node.kill()


class RestartingServer:
    """A server that is started again on the same port after it is killed."""

    def __init__(self, folder: Path, url: str, writer_number: int) -> None:
        self.port = free_port()
        self._folder = folder
        self._settings = {"database.url": url, "ledger.writer": str(writer_number)}
        self._launch()

    def ensure_running(self) -> None:
        # A server exits if PostgreSQL is down during its start: start it again.
        for _ in range(20):
            if wait_until_up(self._server, self._process):
                return
            self._launch()
        raise AssertionError(f"the server did not start:\n{self._server.log.read_text()}")

    def kill(self) -> None:
        self._server.kill()
        self._process.wait()
        self._launch()
        self.ensure_running()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)

    def _launch(self) -> None:
        self._server, self._process = start_server(
            self.port, DEVELOPMENT_INI, self._folder, self._settings
        )


def kill_at_random(run: Run, postgres: Postgres, servers: Sequence[RestartingServer]) -> None:
    """Kill random processes until the deadline; kill each process type at least once."""
    rng = random.Random(run.seed)
    types_not_killed = ["server", "postgres"]
    while time.monotonic() < run.deadline or types_not_killed:
        time.sleep(rng.uniform(0.6, 1.6))
        if types_not_killed:
            process_type = types_not_killed.pop(0)
        else:
            process_type = rng.choice(["server"] * 3 + ["postgres"])
        if process_type == "server":
            rng.choice(servers).kill()
        else:
            postgres.kill()
        run.kill_counts[process_type] += 1


def create_users(database: Database) -> dict[int, str]:
    """Create users with coin accounts; return their phone numbers by account id."""

    def insert_users(connection: Connection) -> dict[int, str]:
        phones = {}
        for n in range(USER_COUNT):
            phone = f"{13800000001 + n}"
            account_id = connection.execute(_INSERT_USER, {"phone": phone}).scalar_one()
            open_account(connection, account_id)
            phones[account_id] = phone
        return phones

    return database.run(insert_users)


def compare_with_ledger(run: Run, database: Database) -> list[str]:
    """Return run errors, audit findings, and responses that contradict the ledger."""
    errors = list(run.errors)
    with database.engine.connect() as connection:
        actor_id_by_account_id = {
            row.owner_id: row.id for row in connection.execute(_SELECT_ACTORS)
        }
        transfer_counts = Counter[tuple[int, UUID]]()
        amounts = {}
        for row in connection.execute(_SELECT_TRANSFERS):
            transfer_counts[row.actor_id, row.request_id] += 1
            amounts[row.actor_id, row.request_id] = row.amount
    for request in run.requests:
        actor_id = actor_id_by_account_id[request.account_id]
        key = actor_id, client_request_id(actor_id, request.request_id)
        transfer_count = transfer_counts.pop(key, 0)
        if transfer_count != (1 if request.result == "0000" else 0):
            errors.append(
                f"request {request.request_id}: result {request.result},"
                f" but {transfer_count} transfers"
            )
        elif transfer_count and amounts[key] != request.coins:
            errors.append(
                f"request {request.request_id}: {amounts[key]} coins moved"
                f" instead of {request.coins}"
            )
    errors += [f"transfer without a request: {key}" for key in transfer_counts]
    findings = audit(database, since_checkpoint=False).findings
    errors += [f"{finding.check}: {finding.detail}" for finding in findings]
    return errors


def retry_confirmed(run: Run, database: Database) -> list[str]:
    """Retry up to 500 confirmed requests; return the errors.

    Each retry must be confirmed again and must not move coins.
    """
    transfers_before = audit(database, since_checkpoint=False).transfers
    confirmed_requests = [request for request in run.requests if request.result == "0000"][-500:]
    errors = [
        f"request {request.request_id}: a retry of the confirmed request failed"
        for request in confirmed_requests
        if run.send(request, run.ports[0]) != "0000"
    ]
    if audit(database, since_checkpoint=False).transfers != transfers_before:
        errors.append("a retry moved coins")
    return errors


@click.command()
@click.option("--seconds", default=60, help="seconds during which the clients send requests")
@click.option(
    "--seed", type=int, help="seed of the random numbers; by default a new one, which is printed"
)
def main(seconds: int, seed: int | None) -> None:
    """Kill servers and PostgreSQL under load; check every response against the ledger."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"seed {seed}")
    with (
        tempfile.TemporaryDirectory(prefix="livebackend crash test ") as name,
        socket_directory() as socket_root,
    ):
        folder = Path(name)
        postgres = Postgres(folder, socket_root)
        database = Database(postgres.url)
        phones = create_users(database)
        servers = [RestartingServer(folder, postgres.url, number) for number in range(2)]
        try:
            for server in servers:
                server.ensure_running()
            run = new_run(seed, seconds, phones, [server.port for server in servers])
            send_requests(run, postgres, servers)
            for server in servers:
                server.ensure_running()
            database.engine.dispose()  # PostgreSQL was killed, so the connections are lost
            errors = compare_with_ledger(run, database) + retry_confirmed(run, database)
        finally:
            for server in servers:
                server.close()
            database.close()
            postgres.close()
    report(run, errors)


def new_run(seed: int, seconds: int, phones: dict[int, str], ports: Sequence[int]) -> Run:
    signer = LoginTokens([DEVELOPMENT_SECRET], clock=time.time)
    tokens = {
        account_id: signer.issue(CurrentUser(account_id, phone, 1), lifetime_s=3600)
        for account_id, phone in phones.items()
    }
    return Run(seed, time.monotonic() + seconds, ports, phones, tokens)


def send_requests(run: Run, postgres: Postgres, servers: Sequence[RestartingServer]) -> None:
    """Run the clients and the reader while servers and PostgreSQL are killed."""
    threads = [
        threading.Thread(target=run.run_client, args=[number]) for number in range(CLIENT_COUNT)
    ]
    threads.append(threading.Thread(target=run.check_sums, args=[postgres.url]))
    for thread in threads:
        thread.start()
    kill_at_random(run, postgres, servers)
    for thread in threads:
        thread.join(timeout=RETRY_FOR_S + 2 * RESPONSE_TIMEOUT_S)
        if thread.is_alive():
            run.errors.append("a client or the reader did not end in time")


def report(run: Run, errors: Sequence[str]) -> None:
    """Print the result; raise SystemExit(1) if there are errors or too few requests."""
    results = Counter(request.result for request in run.requests)
    retried_count = sum(request.retry_count > 0 for request in run.requests)
    click.echo(
        f"{len(run.requests)} requests: {results['0000']} confirmed, {results['0013']} rejected;"
        f" {retried_count} were retried"
    )
    click.echo(
        f"killed: servers {run.kill_counts['server']} times,"
        f" PostgreSQL {run.kill_counts['postgres']} times"
    )
    click.echo(f"the sum of all coins was checked {run.sum_check_count} times")
    for error in list(errors)[:20]:
        click.echo(f"ERROR: {error}")
    if results["0000"] < 100 or not retried_count or not run.sum_check_count:
        click.echo("ERROR: too few confirmed or retried requests: increase --seconds")
        raise SystemExit(1)
    if errors:
        click.echo(f"{len(errors)} errors")
        raise SystemExit(1)
    click.echo("all confirmed requests have exactly one transfer, and the audit has no findings")


if __name__ == "__main__":
    main()
