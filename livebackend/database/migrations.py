"""Database migrations: run them, list them, and check that none is missing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from livebackend.config.errors import DatabaseNotReady
from livebackend.database.engine import Database

# Only one process migrates at a time.
_LOCK_RUNNER = text("SELECT pg_advisory_lock(6543)")
# A migration that waits for a table blocks every statement behind it: so it waits for less than
# these do (2 s), and tries again.
_LIMITS = text("SET lock_timeout = '1s'; SET statement_timeout = '10min'")
_NO_LIMITS = text("SET lock_timeout = 0; SET statement_timeout = 0")
_LOCK_NOT_AVAILABLE = "55P03"
_TRIES, _PAUSE_S = 60, 1.0
# The migrations of the development versions before the first release. No id is used again.
_UNRELEASED = frozenset(f"{number:04}" for number in range(1, 16))


class UnsupportedSchema(DatabaseNotReady):
    """The database has the tables of a version before the first release.

    No migration upgrades them, and nothing in the database is changed.
    """

    def __init__(self, revision: str) -> None:
        self.problem = (
            "the database has the tables of a development version before the first release"
            f" (migration {revision}), which cannot be upgraded"
        )
        self.remedy = (
            "create a new, empty database (if it is embedded, move the folder postgres out of"
            " var.dir)"
        )
        super().__init__(f"database.url: {self.problem}: {self.remedy}")


class MigrationsMissing(DatabaseNotReady):
    """The tables are older than this version."""


class MigrationStatus(NamedTuple):
    """A migration, and whether the database has it."""

    revision: str
    summary: str
    is_applied: bool


def migrate(database: Database, *, report: Callable[[str], None] = lambda line: None) -> None:
    """Run the missing migrations, each in a transaction of its own.

    Waits for another process that migrates. A migration that cannot lock a table within 1 s is
    tried again, for two minutes at most; those before it stay applied. `report` gets a line for
    each migration.
    Raises DatabaseNotReady if the database cannot be reached or a migration fails.
    """
    with _explained(), database.engine.connect() as connection:
        try:
            _execute(connection, _NO_LIMITS, _LOCK_RUNNER, _LIMITS)
            _run(connection, report)
        finally:
            # Closes the session, and with it the lock and these limits.
            connection.invalidate()


def _run(connection: Connection, report: Callable[[str], None]) -> None:
    config = _config()
    config.attributes["connection"] = connection
    config.attributes["on_version_apply"] = _reporter(report)
    for left in reversed(range(_TRIES)):
        status = _status(connection, config)
        connection.rollback()  # Alembic begins the transactions
        if all(each.is_applied for each in status):
            return
        try:
            command.upgrade(config, "head")
        except DBAPIError as error:
            if not left or getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
                raise
            connection.rollback()
            report("a table is locked, trying again")
            time.sleep(_PAUSE_S)


def migration_status(database: Database) -> list[MigrationStatus]:
    """Return every migration, the first one first. Raises DatabaseNotReady."""
    with _explained(), database.engine.connect() as connection:
        return _status(connection, _config())


def pending_sql(database: Database) -> str:
    """Return the SQL of the missing migrations. Raises DatabaseNotReady."""
    applied = [each.revision for each in migration_status(database) if each.is_applied]
    sql = StringIO()
    config = _config()
    config.output_buffer = sql
    command.upgrade(config, f"{applied[-1] if applied else 'base'}:head", sql=True)
    return sql.getvalue()


def check_migrated(database: Database, *, reachable_only: bool = False) -> None:
    """Check that the database can be reached, and that no migration is missing.

    With `reachable_only`, migrations can be missing. Raises DatabaseNotReady; UnsupportedSchema, a
    subclass, in either case.
    """
    status = migration_status(database)
    if not (reachable_only or all(each.is_applied for each in status)):
        raise MigrationsMissing("migrations are missing: run `livebackend migrate`")


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors of the database into DatabaseNotReady: the operator must act."""
    try:
        yield
    except DBAPIError as error:
        raise DatabaseNotReady(f"database.url: {str(error.orig).strip()}") from error


def _status(connection: Connection, config: Config) -> list[MigrationStatus]:
    """Return every migration of this version, the first one first. Raises UnsupportedSchema.

    A database of a later version has all of them. During an upgrade, servers of this version run
    on it, and can be started.
    """
    current = set(MigrationContext.configure(connection).get_current_heads())
    for revision in current & _UNRELEASED:
        raise UnsupportedSchema(revision)
    scripts = list(ScriptDirectory.from_config(config).walk_revisions())  # the newest first
    is_applied = not current <= {script.revision for script in scripts}
    found = []
    for script in scripts:
        is_applied = is_applied or script.revision in current
        found.append(MigrationStatus(script.revision, script.doc, is_applied))
    return found[::-1]


def migrations_folder() -> Traversable:
    """Return the folder of the migrations: in the installed package, or at the top of a checkout.

    A checkout's package hides the installed one when Python is run at the top of the checkout.
    """
    try:
        return files("livebackend.migrations")
    except ModuleNotFoundError:
        return Path(__file__).parents[2] / "migrations"


def _config() -> Config:
    config = Config()
    with as_file(migrations_folder()) as folder:
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def _execute(connection: Connection, *statements: Any) -> None:
    for statement in statements:
        connection.execute(statement)
    connection.commit()


def _reporter(report: Callable[[str], None]) -> Callable[..., None]:
    """Return Alembic's callback for each migration that has run."""
    began_at = time.monotonic()

    def applied(*, step: Any, **_: Any) -> None:
        seconds = time.monotonic() - began_at
        report(f"{step.up_revision.revision} {step.up_revision.doc} (after {seconds:.1f} s)")

    return applied
