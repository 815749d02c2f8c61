"""A bank under fire: `make bank-test`.

Clients give and refill at random over HTTP, by two server processes, while these are killed in the
middle of batches, and PostgreSQL too. What was not answered is repeated with the same request id.
All the while a reader adds up all coins in one statement. At the end no answer was a lie: nothing
that was confirmed is missing, nothing that was refused is there, nothing is there twice.

It says nothing of a power cut: what a killed process has written, the system still writes to disk.
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
import requests
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from livebackend.database.engine import Database
from livebackend.ledger.audit import audit
from livebackend.ledger.coin_accounts import open_account
from livebackend.ledger.transfers import client_key
from livebackend.services.login_tokens import Account, LoginTokens
from livebackend_client import Client, NoReply, NotServed, Refused
from tests.support.application import DEVELOPMENT_SECRET, INI
from tests.support.postgres_node import Node, create_data_directory, socket_directory
from tests.support.servers import free_port, is_up, launch

CLIENTS = 32
PEOPLE = 40
# Longer than a server ever takes to answer: whoever hangs up earlier may repeat beside himself.
ANSWER_S = 15
REPEAT_FOR_S = 60

_SUM = text(
    """
    SELECT (SELECT coalesce(sum(amount), 0) FROM coin_slots)
        - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE kind = 2) AS too_many,
        (SELECT coalesce(min(amount), 0) FROM coin_slots) AS least
    """
)
_PERSON = text("INSERT INTO accounts (phone, password_hash) VALUES (:phone, 'x') RETURNING id")
_BOOKED = text("SELECT actor_id, request_id, amount FROM transfers")
_ACTORS = text("SELECT owner_id, id FROM coin_accounts WHERE owner_id IS NOT NULL")


@dataclass
class Call:
    """One request of a client's, and what he was told in the end."""

    account: int
    request_id: str
    method: Callable[..., object]
    params: dict[str, Any]
    coins: int
    result: str | None = None
    repeated: int = 0


@dataclass
class Fire:
    """All that goes on at once."""

    seed: int
    until: float
    ports: Sequence[int]
    phones: dict[int, str]
    tokens: dict[int, str]
    calls: list[Call] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    killed: Counter[str] = field(default_factory=Counter)
    sums: int = 0

    def client(self, number: int) -> None:
        """Makes one call after the other, and lets none go unanswered."""
        dice = random.Random(self.seed * 1000 + number)
        while time.monotonic() < self.until:
            call = self.drawn(dice, f"{number}-{len(self.calls)}-{dice.random()}")
            self.calls.append(call)
            give_up_at = time.monotonic() + REPEAT_FOR_S
            while call.result is None and time.monotonic() < give_up_at:
                call.result = self.answer(call, dice.choice(self.ports))
                if call.result is None:
                    call.repeated += 1
                    time.sleep(0.05)
            if call.result is None:
                self.wrong.append(f"no answer to {call.request_id} within {REPEAT_FOR_S} s")

    def drawn(self, dice: random.Random, request_id: str) -> Call:
        account, host = dice.sample(list(self.phones), 2)
        if dice.random() < 0.5:
            host = min(self.phones)  # everybody's favourite
        if dice.random() < 0.2 or host == account:
            money = dice.choice(["10", "50", "100"])
            return Call(account, request_id, Client.refill, {"money": money}, int(money))
        coins = dice.randint(1, 40)
        gift = {"object": self.phones[host], "value": str(coins), "description": "a rose"}
        return Call(account, request_id, Client.send_gift, gift, coins)

    def answer(self, call: Call, port: int) -> str | None:
        """The result; None where there was no answer, or one that it is not known."""
        with requests.Session() as session:
            client = Client(
                f"http://127.0.0.1:{port}",
                token=self.tokens[call.account],
                timeout_s=ANSWER_S,
                tries=1,
                session=session,
            )
            try:
                call.method(client, requestId=call.request_id, **call.params)
            except (NoReply, NotServed):
                return None
            except Refused as error:
                if error.refusal == "call was not taken in time":
                    return None
                if error.status != requests.codes.ok:
                    self.wrong.append(f"{error.status} {error} to {call.request_id}")
                return error.code
        return "0000"

    def reader(self, url: str) -> None:
        """Adds up all coins, in one statement, again and again."""
        engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 2})
        while time.monotonic() < self.until:
            with suppress(DBAPIError), engine.connect() as connection:
                row = connection.execute(_SUM).one()
                self.sums += 1
                if row.too_many or row.least < 0:
                    self.wrong.append(f"{row.too_many} coins too many, the least are {row.least}")
            time.sleep(0.02)
        engine.dispose()


class Bank:
    """A durable PostgreSQL that can be killed, and comes back at the same address."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        account = create_data_directory(folder / "postgres")
        self._node = Node("postgres", folder, sockets, account, durable=True)
        self.url = self._node.url
        self._node.start()

    def kill(self) -> None:
        """Kill the server with all its processes, and start it again."""
        self._node.kill()
        self._node.start()

    def close(self) -> None:
        self._node.kill()


class Teller:
    """A server process that can be killed, and comes back on the same port."""

    def __init__(self, folder: Path, url: str, number: int) -> None:
        self.port = free_port()
        self._folder = folder
        self._changed = {"database.url": url, "ledger.writer": str(number)}
        self._launch()

    def await_up(self) -> None:
        # Where PostgreSQL is away just then, a start fails.
        for _ in range(20):
            if is_up(self._server, self._process):
                return
            self._launch()
        raise AssertionError(self._server.log.read_text())

    def kill(self) -> None:
        self._server.kill()
        self._process.wait()
        self._launch()
        self.await_up()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)

    def _launch(self) -> None:
        self._server, self._process = launch(self.port, INI, self._folder, self._changed)


def attack(fire: Fire, bank: Bank, tellers: Sequence[Teller]) -> None:
    """Kills one after the other, at random, until the time is up; each kind at least once."""
    dice = random.Random(fire.seed)
    kinds = ["server", "postgres"]
    while time.monotonic() < fire.until or kinds:
        time.sleep(dice.uniform(0.6, 1.6))
        kind = kinds.pop(0) if kinds else dice.choice(["server"] * 3 + ["postgres"])
        if kind == "server":
            dice.choice(tellers).kill()
        else:
            bank.kill()
        fire.killed[kind] += 1


def settle(database: Database) -> dict[int, str]:
    """People with coin accounts: phones by account."""

    def work(connection: Connection) -> dict[int, str]:
        people = {}
        for n in range(PEOPLE):
            phone = f"{13800000001 + n}"
            account = connection.execute(_PERSON, {"phone": phone}).scalar_one()
            open_account(connection, account)
            people[account] = phone
        return people

    return database.run(work)


def judge(fire: Fire, database: Database) -> list[str]:
    """Every lie that was told, in words."""
    wrong = list(fire.wrong)
    with database.engine.connect() as connection:
        actors = {row.owner_id: row.id for row in connection.execute(_ACTORS)}
        booked = Counter[tuple[int, UUID]]()
        coins = {}
        for row in connection.execute(_BOOKED):
            booked[row.actor_id, row.request_id] += 1
            coins[row.actor_id, row.request_id] = row.amount
    for call in fire.calls:
        actor = actors[call.account]
        key = actor, client_key(actor, call.request_id)
        times = booked.pop(key, 0)
        if times != (1 if call.result == "0000" else 0):
            wrong.append(f"{call.request_id} was answered {call.result} and booked {times} times")
        elif times and coins[key] != call.coins:
            wrong.append(f"{call.request_id} moved {coins[key]} coins instead of {call.coins}")
    wrong += [f"nobody asked for {key}" for key in booked]
    wrong += [f"{each.check}: {each.detail}" for each in audit(database, since_seal=False).findings]
    return wrong


def repeat(fire: Fire, database: Database) -> list[str]:
    """Repeats what was confirmed; whoever is answered otherwise now was lied to."""
    before = audit(database, since_seal=False).transfers
    done = [call for call in fire.calls if call.result == "0000"][-500:]
    wrong = [
        f"{call.request_id} is confirmed no more"
        for call in done
        if fire.answer(call, fire.ports[0]) != "0000"
    ]
    if audit(database, since_seal=False).transfers != before:
        wrong.append("a repetition moved coins")
    return wrong


@click.command()
@click.option("--seconds", default=60, help="how long the clients go on")
@click.option("--seed", type=int, help="of all that is random; printed, to have it again")
def main(seconds: int, seed: int | None) -> None:
    """Tries whether the bank keeps its word."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"seed {seed}")
    with (
        tempfile.TemporaryDirectory(prefix="livebackend bank ") as name,
        socket_directory() as sockets,
    ):
        folder = Path(name)
        bank = Bank(folder, sockets)
        database = Database(bank.url)
        phones = settle(database)
        tellers = [Teller(folder, bank.url, number) for number in range(2)]
        try:
            for teller in tellers:
                teller.await_up()
            fire = kindle(seed, seconds, phones, [teller.port for teller in tellers])
            burn(fire, bank, tellers)
            for teller in tellers:
                teller.await_up()
            database.engine.dispose()  # its connections died with the servers
            wrong = judge(fire, database) + repeat(fire, database)
        finally:
            for teller in tellers:
                teller.close()
            database.close()
            bank.close()
    tell(fire, wrong)


def kindle(seed: int, seconds: int, phones: dict[int, str], ports: Sequence[int]) -> Fire:
    signer = LoginTokens([DEVELOPMENT_SECRET], clock=time.time)
    tokens = {
        account: signer.issue(Account(account, phone, 1), lifetime_s=3600)
        for account, phone in phones.items()
    }
    return Fire(seed, time.monotonic() + seconds, ports, phones, tokens)


def burn(fire: Fire, bank: Bank, tellers: Sequence[Teller]) -> None:
    threads = [threading.Thread(target=fire.client, args=[number]) for number in range(CLIENTS)]
    threads.append(threading.Thread(target=fire.reader, args=[bank.url]))
    for thread in threads:
        thread.start()
    attack(fire, bank, tellers)
    for thread in threads:
        thread.join(timeout=REPEAT_FOR_S + 2 * ANSWER_S)
        if thread.is_alive():
            fire.wrong.append("a client hangs")


def tell(fire: Fire, wrong: Sequence[str]) -> None:
    results = Counter(call.result for call in fire.calls)
    repeated = sum(call.repeated > 0 for call in fire.calls)
    click.echo(
        f"{len(fire.calls)} calls: {results['0000']} done, {results['0013']} refused;"
        f" {repeated} had to be repeated"
    )
    click.echo(
        f"killed: {fire.killed['server']} servers, PostgreSQL {fire.killed['postgres']} times"
    )
    click.echo(f"{fire.sums} sums over all coins meanwhile")
    for each in list(wrong)[:20]:
        click.echo(f"WRONG: {each}")
    if results["0000"] < 100 or not repeated or not fire.sums:
        click.echo("WRONG: too little happened for this to prove anything")
        raise SystemExit(1)
    if wrong:
        click.echo(f"{len(wrong)} wrong")
        raise SystemExit(1)
    click.echo("nothing confirmed is missing, nothing is double, the audit is all zeros")


if __name__ == "__main__":
    main()
