"""A load process of bench/ledger.py that posts gifts without HTTP."""

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
from livebackend.ledger.batch_writer import LedgerBatchWriter
from livebackend.ledger.transfers import CoinAccount, Gift, Transfer, TransferKind, TransferStatus

_DEBIT = text(
    """
    UPDATE coin_slots SET amount = amount - 1
    WHERE coin_account_id = :sender AND slot = 0 AND amount >= 1
    """
)
_CREDIT = text(
    "UPDATE coin_slots SET amount = amount + 1 WHERE coin_account_id = :host AND slot = 0"
)
_INSERT_TRANSFER = text(
    """
    INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)
    VALUES (1, :sender, :host, 1, :sender, CAST(:request_id AS uuid))
    """
)

PostGift = Callable[[int, int], None]


@dataclass(frozen=True)
class Task:
    """Input of a load process, read as JSON from stdin."""

    url: str
    # "writer": the batch writer of the ledger. "naive": one transaction per gift.
    design: str
    # Size of the connection pool in the naive design.
    connections: int
    # Index of this load process, from 0; also the number of its batch writer.
    process_index: int
    threads: int
    # Ids of the coin accounts.
    senders: list[int]
    hosts: list[int]
    # Whether one thread sends gifts from the first host to the senders.
    host_spends: bool
    # Unix time at which all load processes start to post gifts.
    begin_at: float
    seconds: float


def main() -> None:
    task = Task(**json.loads(sys.stdin.read()))
    post_gift, close = _open_writer(task) if task.design == "writer" else _open_naive(task)
    latencies_by_thread: list[list[float]] = [[] for _ in range(task.threads)]

    def post_gifts(thread_index: int) -> None:
        rng = random.Random(task.process_index * 1000 + thread_index)
        time.sleep(max(0, task.begin_at - time.time()))
        ends_at = time.perf_counter() + task.seconds
        started = time.perf_counter()
        while started < ends_at:
            sender, host = rng.choice(task.senders), rng.choice(task.hosts)
            if task.host_spends and thread_index == 0:
                sender, host = task.hosts[0], rng.choice(task.senders)
            post_gift(sender, host)
            now = time.perf_counter()
            latencies_by_thread[thread_index].append(now - started)
            started = now

    threads = [threading.Thread(target=post_gifts, args=[index]) for index in range(task.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close()
    json.dump(
        [latency for thread_latencies in latencies_by_thread for latency in thread_latencies],
        sys.stdout,
    )


def _open_writer(task: Task) -> tuple[PostGift, Callable[[], None]]:
    """Open a batch writer; return functions that post a gift and close the writer."""
    database = Database(task.url)
    writer = LedgerBatchWriter(database, writer_number=task.process_index)

    def post_gift(sender: int, host: int) -> None:
        transfer = Transfer(
            kind=TransferKind.GIFT,
            actor_id=sender,
            debit=CoinAccount(sender),
            credit=CoinAccount(host),
            amount=1,
            request_id=uuid.uuid4(),
            gift=Gift(host, None, "a rose"),
        )
        outcome = writer.submit(transfer, deadline=time.monotonic() + 30)
        assert outcome.status is TransferStatus.DONE

    def close() -> None:
        writer.close()
        database.close()

    return post_gift, close


def _open_naive(task: Task) -> tuple[PostGift, Callable[[], None]]:
    """Open a connection pool; return functions that post a gift and close the pool.

    Each gift is posted in a separate transaction, with two UPDATEs and an INSERT.
    """
    engine = create_engine(
        task.url, pool_size=task.connections, max_overflow=0, pool_timeout=60, pool_use_lifo=True
    )

    def post_gift(sender: int, host: int) -> None:
        values = {"sender": sender, "host": host, "request_id": str(uuid.uuid4())}
        with engine.begin() as connection:
            assert connection.execute(_DEBIT, values).rowcount == 1
            connection.execute(_CREDIT, values)
            connection.execute(_INSERT_TRANSFER, values)

    return post_gift, engine.dispose


if __name__ == "__main__":
    main()
