"""One process that gives coins at the service layer: `python -m bench.posting`."""

import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import create_engine, text

from livebackend.database.engine import Database
from livebackend.ledger.batch_writer import LedgerWriter
from livebackend.ledger.transfers import CoinAccount, Gift, Kind, Status, Transfer

_TAKE = text(
    """
    UPDATE coin_slots SET amount = amount - 1
    WHERE coin_account_id = :sender AND slot = 0 AND amount >= 1
    """
)
_GIVE = text("UPDATE coin_slots SET amount = amount + 1 WHERE coin_account_id = :host AND slot = 0")
_RECORD = text(
    """
    INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)
    VALUES (1, :sender, :host, 1, :sender, CAST(:request_id AS uuid))
    """
)

Give = Callable[[int, int], None]


@dataclass(frozen=True)
class Task:
    """What to do; the lists are coin accounts."""

    url: str
    # "writer", or "naive" with so many connections
    design: str
    connections: int
    number: int
    threads: int
    senders: list[int]
    hosts: list[int]
    # The first host spends what he gets, too.
    host_spends: bool
    begin_at: float
    seconds: float


def main() -> None:
    task = Task(**json.loads(sys.stdin.read()))
    give, close = _writer(task) if task.design == "writer" else _naive(task)
    latencies: list[list[float]] = [[] for _ in range(task.threads)]

    def run(index: int) -> None:
        dice = random.Random(task.number * 1000 + index)
        time.sleep(max(0, task.begin_at - time.time()))
        end = time.perf_counter() + task.seconds
        began = time.perf_counter()
        while began < end:
            sender, host = dice.choice(task.senders), dice.choice(task.hosts)
            if task.host_spends and index == 0:
                sender, host = task.hosts[0], dice.choice(task.senders)
            give(sender, host)
            now = time.perf_counter()
            latencies[index].append(now - began)
            began = now

    threads = [threading.Thread(target=run, args=[index]) for index in range(task.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close()
    json.dump([each for one in latencies for each in one], sys.stdout)


def _writer(task: Task) -> tuple[Give, Callable[[], None]]:
    database = Database(task.url)
    writer = LedgerWriter(database, number=task.number)

    def give(sender: int, host: int) -> None:
        transfer = Transfer(
            kind=Kind.GIFT,
            actor=sender,
            debit=CoinAccount(sender),
            credit=CoinAccount(host),
            amount=1,
            request_id=uuid.uuid4(),
            gift=Gift(host, None, "a rose"),
        )
        outcome = writer.submit(transfer, deadline=time.monotonic() + 30)
        assert outcome.status is Status.DONE

    def close() -> None:
        writer.close()
        database.close()

    return give, close


def _naive(task: Task) -> tuple[Give, Callable[[], None]]:
    """Two UPDATEs and an INSERT for each gift, in a transaction of its own, and nothing else."""
    engine = create_engine(
        task.url, pool_size=task.connections, max_overflow=0, pool_timeout=60, pool_use_lifo=True
    )

    def give(sender: int, host: int) -> None:
        values = {"sender": sender, "host": host, "request_id": str(uuid.uuid4())}
        with engine.begin() as connection:
            assert connection.execute(_TAKE, values).rowcount == 1
            connection.execute(_GIVE, values)
            connection.execute(_RECORD, values)

    return give, engine.dispose


if __name__ == "__main__":
    main()
