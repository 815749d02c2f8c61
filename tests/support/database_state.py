"""What the tests compare before and after a request: the tables, and the pictures on disk."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from livebackend.database.engine import Database
from livebackend.models import Base
from tests.support.api import Person

# A context manager: its block must change no row and no file, and call no gateway.
AssertNoSideEffects = Callable[[], AbstractContextManager[None]]

# The counts of rate limits may change.
_EVERYTHING = text(
    " UNION ALL ".join(
        f"SELECT '{name}', CAST(t AS text) FROM {name} t"
        for name in Base.metadata.tables.keys() - {"rate_limit_windows"}
    )
)

_BALANCES = text(
    "SELECT phone, sum(amount)::bigint AS coins FROM coin_slots"
    " JOIN coin_accounts ON coin_accounts.id = coin_account_id"
    " JOIN accounts ON accounts.id = owner_id GROUP BY phone"
)


class DatabaseState:
    """Everything that a request can change: the tables, and the pictures on disk."""

    def __init__(self, database: Database, var_dir: Path) -> None:
        self._database = database
        self._var_dir = var_dir

    def empty(self) -> None:
        """Delete all rows and pictures."""
        # Without foreign keys, and without the triggers that refuse changes of the ledger.
        statements = ["SET LOCAL session_replication_role = replica"]
        statements += [f"DELETE FROM {name}" for name in Base.metadata.tables]
        self._database.run(lambda connection: connection.execute(text("; ".join(statements))))
        pictures = self._var_dir / "pictures"
        # A test that creates it would not leave the state unchanged.
        pictures.mkdir(exist_ok=True)
        for folder in pictures.iterdir():
            shutil.rmtree(folder, ignore_errors=True)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return all rows of a table."""
        with self._database.engine.connect() as connection:
            found = connection.execute(Base.metadata.tables[name].select()).mappings()
            return [dict(row) for row in found]

    def execute(self, statement: str) -> None:
        with self._database.engine.begin() as connection:
            connection.execute(text(statement))

    def state(self) -> dict[str, Any]:
        """Return all rows and the names of all files, to compare them."""
        with self._database.engine.connect() as connection:
            rows = connection.execute(_EVERYTHING).all()
        return {
            "rows": sorted(map(tuple, rows)),
            "files": sorted(map(str, self._var_dir.rglob("*"))),
        }

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Check that the `with` block changes nothing."""
        before = self.state()
        yield
        assert self.state() == before

    def coins(self, person: Person) -> int:
        """Return the balance of a user."""
        return self.balances().get(person.phone, 0)

    def balances(self) -> dict[str, int]:
        """Return the balance of each user, by phone."""
        with self._database.engine.connect() as connection:
            return {row.phone: row.coins for row in connection.execute(_BALANCES)}
