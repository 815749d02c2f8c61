"""Benchmark of the audit and coin records of a million transfers.

Run it with `make bench-ledger-scale`.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import click
from sqlalchemy import text

from bench.ledger_database import LedgerDatabase, ledger_database
from livebackend.database.call_deadlines import remove_deadline
from livebackend.database.engine import Database, disable_timeouts
from livebackend.ledger.audit import audit
from livebackend.ledger.checkpoints import create_checkpoint
from livebackend.ledger.history import CoinHistory, HistoryCursor

USER_COUNT, HOST_COUNT = 20_000, 1000
TRANSFER_COUNT = 1_000_000

# Every fifth gift goes to the first host.
_INSERT_GIFTS = text(
    """
    WITH gift_values AS (
        SELECT :first + 1000 + n % :senders AS sender,
            :first + CASE WHEN n % 5 = 0 THEN 0 ELSE n % 1000 END AS host, 1 + n % 9 AS coins
        FROM generate_series(1, :transfers) AS n
    ), new_transfers AS (
        INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)
        SELECT 1, sender, host, coins, sender, gen_random_uuid() FROM gift_values
        RETURNING id, credit_id
    )
    INSERT INTO gifts (transfer_id, host_id, description)
    SELECT id, credit_id, 'a rose' FROM new_transfers
    """
)
_DEBIT_SENDERS = text(
    """
    UPDATE coin_slots SET amount = coin_slots.amount - spent.coins
    FROM (SELECT debit_id, sum(amount) AS coins FROM transfers WHERE kind = 1 GROUP BY 1) AS spent
    WHERE coin_account_id = debit_id AND slot = 0
    """
)
_CREDIT_HOSTS = text(
    """
    INSERT INTO coin_slots (coin_account_id, slot, amount)
    SELECT credit_id, 1 + id % 16, sum(amount) FROM transfers WHERE kind = 1 GROUP BY 1, 2
    """
)


def insert_gifts(ledger: LedgerDatabase) -> None:
    """Insert a million gifts in one transaction; update balances as the ledger does."""
    database = Database(ledger.url, statement_timeout_s=0)
    values = {
        "first": ledger.users[0][0],
        "senders": USER_COUNT - HOST_COUNT,
        "transfers": TRANSFER_COUNT,
    }
    with database.engine.begin() as connection:
        disable_timeouts(connection)
        connection.execute(_INSERT_GIFTS, values)
        connection.execute(_DEBIT_SENDERS)
        connection.execute(_CREDIT_HOSTS)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        remove_deadline(connection)
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
    database.close()


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def p99(durations: list[float]) -> float:
    return statistics.quantiles(durations, n=100)[98]


def measure_reads(
    database: Database, ledger: LedgerDatabase, repetitions: int
) -> dict[str, list[float]]:
    """Time queries of records, balances and the ranking; return seconds by query."""
    host_ids = [account_id for _, account_id in ledger.users[:HOST_COUNT]]
    user_ids = [account_id for _, account_id in ledger.users[HOST_COUNT:]]
    popular_host_id = host_ids[0]

    history = CoinHistory()

    def read_page(account_id: int, before: HistoryCursor | None = None) -> HistoryCursor | None:
        _, cursor = database.run(
            lambda connection: history.records(connection, account_id, before=before, limit=100)
        )
        return cursor

    def time_pages(account_ids: list[int]) -> list[float]:
        return [
            timed(partial(read_page, account_ids[n % len(account_ids)])) for n in range(repetitions)
        ]

    def time_deep_pages() -> list[float]:
        """Read consecutive pages of the popular host's records; return the durations."""
        cursor, durations = None, []
        for _ in range(repetitions):
            started = time.perf_counter()
            cursor = read_page(popular_host_id, cursor)
            durations.append(time.perf_counter() - started)
        return durations

    def read_balance() -> int:
        return database.run(lambda connection: history.balance(connection, popular_host_id))

    def read_ranking() -> object:
        phone = f"{13800000000 + popular_host_id}"
        return database.run(lambda connection: history.top_givers(connection, host=phone))

    return {
        "page": time_pages(user_ids),
        "host's page": time_pages(host_ids),
        "deep page": time_deep_pages(),
        "balance": [timed(read_balance) for _ in range(repetitions)],
        "ranking": [timed(read_ranking) for _ in range(50)],
    }


@click.command()
@click.option(
    "--reads",
    default=1000,
    help="Number of queries of each kind, except the gift ranking: it runs 50 times.",
)
def main(reads: int) -> None:
    """Measure the audit, and queries of coin records, balances and the gift ranking."""
    with ledger_database(USER_COUNT, slow_wal_us=0) as ledger:
        insert_gifts(ledger)
        database = Database(ledger.url)
        audit_durations = [timed(lambda: check_audit(database)) for _ in range(3)]
        read_durations = measure_reads(database, ledger, reads)
        checkpoint_s = timed(lambda: create_checkpoint(database))
        incremental_durations = [
            timed(lambda: check_audit(database, since_checkpoint=True)) for _ in range(3)
        ]
        full_audit_s = timed(lambda: check_audit(database))
        database.close()
    measurements = [
        ("audit", statistics.median(audit_durations), 5.0),
        ("page of a user's records, p99", p99(read_durations["page"]), 0.010),
        ("page of a host's records, p99", p99(read_durations["host's page"]), 0.010),
        (
            f"page of the popular host's records, {reads} consecutive pages, p99",
            p99(read_durations["deep page"]),
            0.010,
        ),
        (
            "balance of the popular host, median",
            statistics.median(read_durations["balance"]),
            0.002,
        ),
        ("balance of the popular host, p99", p99(read_durations["balance"]), 0.002),
    ]
    is_limit_missed = False
    for label, seconds, limit_s in measurements:
        is_limit_missed |= seconds >= limit_s
        line = f"{seconds * 1000:10.2f} ms  (under {limit_s * 1000:.0f})  {label}"
        click.echo(line + "  MISSED" * (seconds >= limit_s))
    for label, seconds in [
        ("ranking of the popular host, median", statistics.median(read_durations["ranking"])),
        ("checkpoint of all transfers", checkpoint_s),
        ("audit since the checkpoint", statistics.median(incremental_durations)),
        ("full audit after the checkpoint", full_audit_s),
    ]:
        click.echo(f"{seconds * 1000:10.2f} ms  {label}")
    if is_limit_missed:
        raise SystemExit(1)


def check_audit(database: Database, *, since_checkpoint: bool = False) -> None:
    result = audit(database, since_checkpoint=since_checkpoint)
    assert not result.findings, result.findings
    assert since_checkpoint or result.transfers == TRANSFER_COUNT + USER_COUNT


if __name__ == "__main__":
    main()
