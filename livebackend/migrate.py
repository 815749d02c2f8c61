"""Bringing the tables up to date, and telling whether they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from livebackend.db import Database
from livebackend.settings import SettingsError


def migrate(database: Database) -> None:
    """Runs the migrations that are missing, in one transaction; none twice at the same time.

    Raises SettingsError if the database can't be reached, or refuses.
    """
    with _explained(), database.engine.begin() as connection:
        config = _config()
        if not _is_behind(connection, config):
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_migrated(database: Database, *, reachable_only: bool = False) -> None:
    """Raises SettingsError if the database can't be reached, or its tables are behind the code."""
    with _explained(), database.engine.connect() as connection:
        behind = _is_behind(connection, _config())
    if behind and not reachable_only:
        raise SettingsError("the database is behind its migrations: run `livebackend migrate`")


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what the database says into a fault of the settings: an operator has to act."""
    try:
        yield
    except DBAPIError as error:
        raise SettingsError(f"database.url: {str(error.orig).strip()}") from error


def _is_behind(connection: Connection, config: Config) -> bool:
    """Whether migrations are missing that we know.

    A database that is ahead of us is not behind: while servers are upgraded one after the other,
    the old ones go on, and may even start anew.
    """
    ours = ScriptDirectory.from_config(config)
    current = set(MigrationContext.configure(connection).get_current_heads())
    known = {script.revision for script in ours.walk_revisions()}
    return current != set(ours.get_heads()) and current <= known


def _folder() -> Traversable:
    """Return the folder of the migrations: in the installed package, or at the top of a checkout.

    A checkout's package hides the installed one when Python is run at the top of the checkout.
    """
    try:
        return files("livebackend.migrations")
    except ModuleNotFoundError:
        return Path(__file__).parent.parent / "migrations"


def _config() -> Config:
    config = Config()
    with as_file(_folder()) as folder:
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config
