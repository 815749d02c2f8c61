"""Reads rows and files, to compare them before and after a request."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from livebackend.database.engine import Database
from livebackend.models import Base
from tests.support.api import UserClient

# Function that returns a context manager. Code in its `with` block must change no row and no file,
# and must call no gateway.
AssertNoSideEffects = Callable[[], AbstractContextManager[None]]

# All rows except the rate limit counters, which every request may change.
_SELECT_ALL_ROWS = text(
    " UNION ALL ".join(
        f"SELECT '{name}', CAST(t AS text) FROM {name} t"
        for name in Base.metadata.tables.keys() - {"rate_limit_counters"}
    )
)

_SELECT_BALANCES = text(
    "SELECT phone, sum(amount)::bigint AS coins FROM coin_slots"
    " JOIN coin_accounts ON coin_accounts.id = coin_account_id"
    " JOIN accounts ON accounts.id = owner_id GROUP BY phone"
)


class DatabaseState:
    """Reads, changes and deletes the rows and files of the tests."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        self._database = database
        self._data_dir = data_dir

    def empty(self) -> None:
        """Delete all rows and pictures."""
        # The replica role disables foreign keys, and the triggers that protect the ledger.
        statements = ["SET LOCAL session_replication_role = replica"]
        statements += [f"DELETE FROM {name}" for name in Base.metadata.tables]
        self._database.run(lambda connection: connection.execute(text("; ".join(statements))))
        pictures = self._data_dir / "pictures"
        # This directory is created here, because `assert_unchanged` would report a directory that
        # an upload creates.
        pictures.mkdir(exist_ok=True)
        for folder in pictures.iterdir():
            shutil.rmtree(folder, ignore_errors=True)

    def rows(self, table_name: str) -> list[dict[str, Any]]:
        """Return all rows of a table."""
        with self._database.engine.connect() as connection:
            rows = connection.execute(Base.metadata.tables[table_name].select()).mappings()
            return [dict(row) for row in rows]

    def execute(self, statement: str) -> None:
        with self._database.engine.begin() as connection:
            connection.execute(text(statement))

    def state(self) -> dict[str, Any]:
        """Return all rows and all file names."""
        with self._database.engine.connect() as connection:
            rows = connection.execute(_SELECT_ALL_ROWS).all()
        return {
            "rows": sorted(map(tuple, rows)),
            "files": sorted(map(str, self._data_dir.rglob("*"))),
        }

    @contextmanager
    def assert_unchanged(self) -> Iterator[None]:
        """Assert that the `with` block changes no row and no file name."""
        state_before = self.state()
        yield
        assert self.state() == state_before

    def coins(self, user: UserClient) -> int:
        """Return the coin balance of a user."""
        return self.balances().get(user.phone, 0)

    def balances(self) -> dict[str, int]:
        """Return the coin balance of each user by phone."""
        with self._database.engine.connect() as connection:
            return {row.phone: row.coins for row in connection.execute(_SELECT_BALANCES)}
