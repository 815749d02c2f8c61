"""A durable PostgreSQL with users and coins, for benchmarks of the ledger."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development import embedded_postgres
from livebackend.development.embedded_postgres import EmbeddedPostgres

_COINS_PER_USER = 1_000_000_000

_ACCOUNTS = text(
    """
    INSERT INTO accounts (phone, password_hash, nickname)
    SELECT to_char(13800000000 + n, 'FM00000000000'), 'x', 'user ' || n
    FROM generate_series(1, :users) AS n
    """
)
_PROVIDER = text("INSERT INTO coin_accounts (provider) VALUES ('direct')")
_COIN_ACCOUNTS = text("INSERT INTO coin_accounts (owner_id) SELECT id FROM accounts ORDER BY id")
_SLOTS = text(
    """
    INSERT INTO coin_slots (coin_account_id, slot, amount)
    SELECT id, 0, :coins FROM coin_accounts WHERE owner_id IS NOT NULL
    """
)
_REFILLS = text(
    """
    INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)
    SELECT 2, (SELECT id FROM coin_accounts WHERE provider = 'direct'), id, :coins, id,
        gen_random_uuid()
    FROM coin_accounts WHERE owner_id IS NOT NULL
    """
)
_PAIRS = text("SELECT id, owner_id FROM coin_accounts WHERE owner_id IS NOT NULL ORDER BY id")
# PostgreSQL 18 counts WAL flushes in pg_stat_io; older versions count them in pg_stat_wal.
_SYNCS = text("SELECT coalesce(sum(fsyncs), 0)::bigint FROM pg_stat_io WHERE object = 'wal'")


@dataclass(frozen=True)
class LedgerDatabase:
    """The database URL, and each user as (coin account id, account id)."""

    url: str
    users: list[tuple[int, int]]


@contextmanager
def ledger_database(users: int, *, slow_wal_us: int) -> Iterator[LedgerDatabase]:
    """Start a PostgreSQL with users; add `slow_wal_us` microseconds to each WAL flush."""
    with tempfile.TemporaryDirectory(prefix="livebackend-bench-") as name:
        folder = Path(name)
        folder.chmod(
            0o755
        )  # PostgreSQL can run as another system user, which must read slow_wal.so
        embedded = EmbeddedPostgres(folder / "postgres")
        preload = {"LD_PRELOAD": _shim(folder), "SLOW_WAL_US": str(slow_wal_us)}
        embedded_postgres.ENVIRONMENT.update(preload if slow_wal_us else {})
        try:
            url = embedded.start()
            yield LedgerDatabase(url, _insert_users(url, users))
        finally:
            for variable in preload:
                embedded_postgres.ENVIRONMENT.pop(variable, None)
            embedded.close()


def wal_syncs(database: Database) -> int:
    """Return the number of WAL flushes that all processes have reported so far."""
    with database.engine.connect() as connection:
        syncs: int = connection.execute(_SYNCS).scalar_one()
        return syncs


def _shim(folder: Path) -> str:
    shim = folder / "slow_wal.so"
    source = Path(__file__).with_name("slow_wal.c")
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return str(shim)


def _insert_users(url: str, users: int) -> list[tuple[int, int]]:
    database = Database(url, statement_timeout_s=0)
    migrate(database)
    with database.engine.begin() as connection:
        connection.execute(_ACCOUNTS, {"users": users})
        for statement in (_PROVIDER, _COIN_ACCOUNTS):
            connection.execute(statement)
        for statement in (_SLOTS, _REFILLS):
            connection.execute(statement, {"coins": _COINS_PER_USER})
        pairs = [(row.id, row.owner_id) for row in connection.execute(_PAIRS)]
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
    database.close()
    return pairs
