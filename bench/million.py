"""What a million transfers cost those who read them: `make bench-million`."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import click
from sqlalchemy import text

from bench.bank import Bank, opened
from livebackend.database.engine import Database
from livebackend.ledger.audit import audit
from livebackend.ledger.checkpoints import seal
from livebackend.ledger.history import CoinHistory, Place

PEOPLE, HOSTS = 20_000, 1000
TRANSFERS = 1_000_000

# Every fifth gift goes to the same host.
_GIVE = text(
    """
    WITH drawn AS (
        SELECT :first + 1000 + n % :senders AS sender,
            :first + CASE WHEN n % 5 = 0 THEN 0 ELSE n % 1000 END AS host, 1 + n % 9 AS coins
        FROM generate_series(1, :transfers) AS n
    ), given AS (
        INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)
        SELECT 1, sender, host, coins, sender, gen_random_uuid() FROM drawn
        RETURNING id, credit_id
    )
    INSERT INTO gifts (transfer_id, host_id, description)
    SELECT id, credit_id, 'a rose' FROM given
    """
)
_TAKE = text(
    """
    UPDATE coin_slots SET amount = coin_slots.amount - spent.coins
    FROM (SELECT debit_id, sum(amount) AS coins FROM transfers WHERE kind = 1 GROUP BY 1) AS spent
    WHERE coin_account_id = debit_id AND slot = 0
    """
)
_PUT = text(
    """
    INSERT INTO coin_slots (coin_account_id, slot, amount)
    SELECT credit_id, 1 + id % 16, sum(amount) FROM transfers WHERE kind = 1 GROUP BY 1, 2
    """
)


def fill(bank: Bank) -> None:
    """Books a million gifts, as the ledger would have, but all in one transaction."""
    database = Database(bank.url, statement_wait_s=0)
    numbers = {"first": bank.people[0][0], "senders": PEOPLE - HOSTS, "transfers": TRANSFERS}
    with database.engine.begin() as connection:
        connection.execute(_GIVE, numbers)
        connection.execute(_TAKE)
        connection.execute(_PUT)
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


def read(database: Database, bank: Bank, times: int) -> dict[str, list[float]]:
    """How long each of so many readings took, by what is read."""
    hosts = [account for _, account in bank.people[:HOSTS]]
    people = [account for _, account in bank.people[HOSTS:]]
    famous = hosts[0]

    history = CoinHistory()

    def page(account: int, before: Place | None = None) -> Place | None:
        _, place = database.run(
            lambda connection: history.records(connection, account, before=before, limit=100)
        )
        return place

    def pages(accounts: list[int]) -> list[float]:
        return [timed(partial(page, accounts[n % len(accounts)])) for n in range(times)]

    def deep() -> list[float]:
        """Pages of the famous host's, one after the other."""
        place, took = None, []
        for _ in range(times):
            started = time.perf_counter()
            place = page(famous, place)
            took.append(time.perf_counter() - started)
        return took

    def balance() -> int:
        return database.run(lambda connection: history.balance(connection, famous))

    def ranking() -> object:
        phone = f"{13800000000 + famous}"
        return database.run(lambda connection: history.top_givers(connection, host=phone))

    return {
        "page": pages(people),
        "host's page": pages(hosts),
        "deep page": deep(),
        "balance": [timed(balance) for _ in range(times)],
        "ranking": [timed(ranking) for _ in range(50)],
    }


@click.command()
@click.option("--reads", default=1000, help="how often each reader reads")
def main(reads: int) -> None:
    """Measures the audit, the records and the balance of somebody, and of a famous host."""
    with opened(PEOPLE, slow_wal_us=0) as bank:
        fill(bank)
        database = Database(bank.url)
        audits = [timed(lambda: whole(database)) for _ in range(3)]
        took = read(database, bank, reads)
        sealing = timed(lambda: seal(database))
        since = [timed(lambda: whole(database, since_seal=True)) for _ in range(3)]
        full = timed(lambda: whole(database))
        database.close()
    bounds = [
        ("audit", statistics.median(audits), 5.0),
        ("records=1 of somebody, p99", p99(took["page"]), 0.010),
        ("records=1 of a host, p99", p99(took["host's page"]), 0.010),
        (f"records=1 of the famous host, {reads} pages deep, p99", p99(took["deep page"]), 0.010),
        ("balance of the famous host, median", statistics.median(took["balance"]), 0.002),
        ("balance of the famous host, p99", p99(took["balance"]), 0.002),
    ]
    missed = False
    for what, seconds, most in bounds:
        missed |= seconds >= most
        line = f"{seconds * 1000:10.2f} ms  (under {most * 1000:.0f})  {what}"
        click.echo(line + "  MISSED" * (seconds >= most))
    for what, seconds in [
        ("ranking of the famous host, median", statistics.median(took["ranking"])),
        ("sealing it all", sealing),
        ("audit since that seal", statistics.median(since)),
        ("audit of all, seal included", full),
    ]:
        click.echo(f"{seconds * 1000:10.2f} ms  {what}")
    if missed:
        raise SystemExit(1)


def whole(database: Database, *, since_seal: bool = False) -> None:
    done = audit(database, since_seal=since_seal)
    assert not done.findings, done.findings
    assert since_seal or done.transfers == TRANSFERS + PEOPLE


if __name__ == "__main__":
    main()
