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

_INSERT_ACCOUNTS = text(
    """
    INSERT INTO accounts (phone, password_hash, nickname)
    SELECT to_char(13800000000 + n, 'FM00000000000'), 'x', 'user ' || n
    FROM generate_series(1, :users) AS n
    """
)
_INSERT_PROVIDER = text("INSERT INTO coin_accounts (provider) VALUES ('direct')")
_INSERT_COIN_ACCOUNTS = text(
    "INSERT INTO coin_accounts (owner_id) SELECT id FROM accounts ORDER BY id"
)
_INSERT_SLOTS = text(
    """
    INSERT INTO coin_slots (coin_account_id, slot, amount)
    SELECT id, 0, :coins FROM coin_accounts WHERE owner_id IS NOT NULL
    """
)
_INSERT_REFILLS = text(
    """
    INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)
    SELECT 2, (SELECT id FROM coin_accounts WHERE provider = 'direct'), id, :coins, id,
        gen_random_uuid()
    FROM coin_accounts WHERE owner_id IS NOT NULL
    """
)
_SELECT_USERS = text(
    "SELECT id, owner_id FROM coin_accounts WHERE owner_id IS NOT NULL ORDER BY id"
)
# PostgreSQL 18 counts WAL flushes in pg_stat_io; older versions count them in pg_stat_wal.
_WAL_SYNCS = text("SELECT coalesce(sum(fsyncs), 0)::bigint FROM pg_stat_io WHERE object = 'wal'")


@dataclass(frozen=True)
class LedgerDatabase:
    """The database URL, and each user as (coin account id, account id)."""

    url: str
    users: list[tuple[int, int]]


@contextmanager
def ledger_database(user_count: int, *, slow_wal_us: int) -> Iterator[LedgerDatabase]:
    """Run a PostgreSQL with users; add `slow_wal_us` microseconds to each WAL flush.

    PostgreSQL stops after the `with` block.
    """
    with tempfile.TemporaryDirectory(prefix="livebackend-bench-") as name:
        folder = Path(name)
        # PostgreSQL can run as another system user, which must be able to read slow_wal.so.
        folder.chmod(0o755)
        postgres = EmbeddedPostgres(folder / "postgres")
        preload_variables = {
            "LD_PRELOAD": _compile_slow_wal(folder),
            "SLOW_WAL_US": str(slow_wal_us),
        }
        embedded_postgres.ENVIRONMENT.update(preload_variables if slow_wal_us else {})
        try:
            url = postgres.start()
            yield LedgerDatabase(url, _insert_users(url, user_count))
        finally:
            for variable in preload_variables:
                embedded_postgres.ENVIRONMENT.pop(variable, None)
            postgres.close()


def wal_syncs(database: Database) -> int:
    """Return the number of WAL flushes that PostgreSQL processes have reported so far."""
    with database.engine.connect() as connection:
        syncs: int = connection.execute(_WAL_SYNCS).scalar_one()
        return syncs


def _compile_slow_wal(folder: Path) -> str:
    library = folder / "slow_wal.so"
    source = Path(__file__).with_name("slow_wal.c")
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return str(library)


def _insert_users(url: str, user_count: int) -> list[tuple[int, int]]:
    database = Database(url, statement_timeout_s=0)
    migrate(database)
    with database.engine.begin() as connection:
        connection.execute(_INSERT_ACCOUNTS, {"users": user_count})
        for statement in (_INSERT_PROVIDER, _INSERT_COIN_ACCOUNTS):
            connection.execute(statement)
        for statement in (_INSERT_SLOTS, _INSERT_REFILLS):
            connection.execute(statement, {"coins": _COINS_PER_USER})
        users = [(row.id, row.owner_id) for row in connection.execute(_SELECT_USERS)]
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
    database.close()
    return users
