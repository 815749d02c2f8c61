"""Makes the database of an application unreachable."""

import pytest

from livebackend.database.engine import Database

UNREACHABLE_DATABASE_URL = "postgresql+psycopg2://user@127.0.0.1:1/nothing"


def disconnect(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the engines of `database` by those of a database that does not exist."""
    unreachable = Database(UNREACHABLE_DATABASE_URL)
    for name in ("engine", "autocommit_engine"):
        monkeypatch.setattr(database, name, getattr(unreachable, name))
