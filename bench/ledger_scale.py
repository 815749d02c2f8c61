"""Benchmark of the audit and coin records of a million transfers: `make bench-ledger-scale`."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import click
from sqlalchemy import text

from bench.ledger_database import LedgerDatabase, ledger_database
from livebackend.database.engine import Database
from livebackend.ledger.audit import audit
from livebackend.ledger.checkpoints import create_checkpoint
from livebackend.ledger.history import CoinHistory, HistoryCursor

USERS, HOSTS = 20_000, 1000
TRANSFERS = 1_000_000

# Every fifth gift goes to the first host.
_GIFTS = text(
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
_DEBIT = text(
    """
    UPDATE coin_slots SET amount = coin_slots.amount - spent.coins
    FROM (SELECT debit_id, sum(amount) AS coins FROM transfers WHERE kind = 1 GROUP BY 1) AS spent
    WHERE coin_account_id = debit_id AND slot = 0
    """
)
_CREDIT = text(
    """
    INSERT INTO coin_slots (coin_account_id, slot, amount)
    SELECT credit_id, 1 + id % 16, sum(amount) FROM transfers WHERE kind = 1 GROUP BY 1, 2
    """
)


def fill(ledger: LedgerDatabase) -> None:
    """Insert a million gifts in one transaction, with the rows that the ledger would write."""
    database = Database(ledger.url, statement_timeout_s=0)
    values = {"first": ledger.users[0][0], "senders": USERS - HOSTS, "transfers": TRANSFERS}
    with database.engine.begin() as connection:
        connection.execute(_GIFTS, values)
        connection.execute(_DEBIT)
        connection.execute(_CREDIT)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
    database.close()


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


def read(database: Database, ledger: LedgerDatabase, times: int) -> dict[str, list[float]]:
    """Query records, balances and the ranking; return the durations in seconds by kind."""
    hosts = [account for _, account in ledger.users[:HOSTS]]
    users = [account for _, account in ledger.users[HOSTS:]]
    popular_host = hosts[0]

    history = CoinHistory()

    def page(account: int, before: HistoryCursor | None = None) -> HistoryCursor | None:
        _, cursor = database.run(
            lambda connection: history.records(connection, account, before=before, limit=100)
        )
        return cursor

    def pages(accounts: list[int]) -> list[float]:
        return [timed(partial(page, accounts[n % len(accounts)])) for n in range(times)]

    def deep_pages() -> list[float]:
        """Read consecutive pages of the popular host's records."""
        cursor, seconds = None, []
        for _ in range(times):
            started = time.perf_counter()
            cursor = page(popular_host, cursor)
            seconds.append(time.perf_counter() - started)
        return seconds

    def balance() -> int:
        return database.run(lambda connection: history.balance(connection, popular_host))

    def ranking() -> object:
        phone = f"{13800000000 + popular_host}"
        return database.run(lambda connection: history.top_givers(connection, host_phone=phone))

    return {
        "page": pages(users),
        "host's page": pages(hosts),
        "deep page": deep_pages(),
        "balance": [timed(balance) for _ in range(times)],
        "ranking": [timed(ranking) for _ in range(50)],
    }


@click.command()
@click.option("--reads", default=1000, help="Number of queries of each kind, except the ranking.")
def main(reads: int) -> None:
    """Measure the audit, and the records and balances of users and of one popular host."""
    with ledger_database(USERS, slow_wal_us=0) as ledger:
        fill(ledger)
        database = Database(ledger.url)
        audits = [timed(lambda: check_audit(database)) for _ in range(3)]
        durations = read(database, ledger, reads)
        checkpoint = timed(lambda: create_checkpoint(database))
        incremental = [
            timed(lambda: check_audit(database, since_checkpoint=True)) for _ in range(3)
        ]
        full = timed(lambda: check_audit(database))
        database.close()
    limits = [
        ("audit", statistics.median(audits), 5.0),
        ("page of a user's records, p99", p99(durations["page"]), 0.010),
        ("page of a host's records, p99", p99(durations["host's page"]), 0.010),
        (
            f"page of the popular host's records, {reads} consecutive pages, p99",
            p99(durations["deep page"]),
            0.010,
        ),
        ("balance of the popular host, median", statistics.median(durations["balance"]), 0.002),
        ("balance of the popular host, p99", p99(durations["balance"]), 0.002),
    ]
    missed = False
    for label, seconds, limit_s in limits:
        missed |= seconds >= limit_s
        line = f"{seconds * 1000:10.2f} ms  (under {limit_s * 1000:.0f})  {label}"
        click.echo(line + "  MISSED" * (seconds >= limit_s))
    for label, seconds in [
        ("ranking of the popular host, median", statistics.median(durations["ranking"])),
        ("checkpoint of all transfers", checkpoint),
        ("audit since the checkpoint", statistics.median(incremental)),
        ("full audit after the checkpoint", full),
    ]:
        click.echo(f"{seconds * 1000:10.2f} ms  {label}")
    if missed:
        raise SystemExit(1)


def check_audit(database: Database, *, since_checkpoint: bool = False) -> None:
    result = audit(database, since_checkpoint=since_checkpoint)
    assert not result.findings, result.findings
    assert since_checkpoint or result.transfers == TRANSFERS + USERS


if __name__ == "__main__":
    main()
