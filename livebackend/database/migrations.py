"""Functions that run, list and check the database migrations."""

import ast
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.config.errors import DatabaseNotReady, DatabaseUnavailable
from livebackend.database.call_deadlines import remove_deadline
from livebackend.database.engine import Database

# Serializes concurrent runs of `migrate`. No other advisory lock may use the number 6543. A runner
# tries again and again, because CREATE INDEX CONCURRENTLY waits for every statement that runs, also
# for one that waits for the lock.
_TRY_LOCK_MIGRATIONS = text("SELECT pg_try_advisory_lock(6543)")
_LOCK_PAUSE_S, _LOCK_TIMEOUT_S = 0.2, 3600.0
# A migration that waits for a table lock blocks all later statements on that table. So it stops
# waiting after 1.5 s, before the lock_timeout of those statements (2 s), and is tried again. After
# deadlock_timeout (1 s), PostgreSQL ends an autovacuum of the table, but not if lock_timeout comes
# first: an autovacuum of a large table takes longer than all tries.
_SET_TIMEOUTS = text("SET lock_timeout = '1500ms'; SET statement_timeout = '10min'")
# A lock timeout, and a deadlock with a request that locks the rows in another order.
_RETRIED_SQLSTATES = {"55P03", "40P01"}
_MAX_TRIES, _RETRY_PAUSE_S = 60, 1.0
# PostgreSQL's messages about a wrong user, password or database in the URL. The driver has no
# SQLSTATE for an error during the connection.
_REJECTED_URL = re.compile(
    'password authentication failed|no password supplied|(role|database) ".*" does not exist'
    "|no pg_hba.conf entry|invalid connection option"
)
# A file of a migration, which begins with the revision. Each revision follows the previous one.
_MIGRATION_FILE = re.compile(r"([0-9]{4})(_.*)?\.py")
_HAS_REVISION = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_READ_REVISION = text("SELECT version_num FROM alembic_version")
# Ids of the migrations before the first release. A database with one of these ids is rejected, so
# new migrations must not have these ids.
_UNRELEASED_REVISIONS = frozenset(f"{number:04}" for number in range(1, 16))


class UnsupportedSchema(DatabaseNotReady):
    """The database has the tables of a version before the first release.

    There is no upgrade from such a version. The database is not changed.
    """

    def __init__(self, revision: str) -> None:
        self.problem = (
            "the database has the tables of a development version before the first release"
            f" (migration {revision}), which cannot be upgraded"
        )
        self.remedy = (
            "create a new, empty database (if it is embedded, move the folder postgres out of"
            " data.dir)"
        )
        super().__init__(f"database.url: {self.problem}: {self.remedy}")


class MigrationsMissing(DatabaseNotReady):
    """The database lacks at least one migration of this version."""


class MigrationStatus(NamedTuple):
    """A migration, and whether it is applied."""

    revision: str
    summary: str
    is_applied: bool


def migrate(database: Database, *, report: Callable[[str], None] = lambda line: None) -> None:
    """Run the missing migrations, each in its own transaction.

    Waits while another process runs migrations. A migration that cannot lock a table within 1.5 s
    is tried again, 60 times at most; earlier migrations stay applied. `report` receives one
    line for each applied migration and each retry.
    Raises DatabaseUnavailable, and DatabaseNotReady if a migration fails.
    """
    with _database_errors_converted(), database.engine.connect() as connection:
        remove_deadline(connection)
        try:
            _lock_migrations(connection)
            connection.execute(_SET_TIMEOUTS)
            connection.commit()
            _run_missing_migrations(connection, report)
        finally:
            # Closes the session, which releases the lock and resets the timeouts.
            connection.invalidate()


def _run_missing_migrations(connection: Connection, report: Callable[[str], None]) -> None:
    report_applied = _reporter(report)
    for remaining_tries in reversed(range(_MAX_TRIES)):
        are_applied = _are_applied(connection)
        connection.rollback()  # Alembic begins its own transactions
        if all(are_applied.values()):
            return
        # Alembic needs 10 MB of memory, so a process imports it only if a migration is missing.
        from livebackend.database.alembic_commands import upgrade  # noqa: PLC0415

        try:
            upgrade(migrations_folder(), connection, report_applied)
        except DBAPIError as error:
            if not remaining_tries or getattr(error.orig, "pgcode", None) not in _RETRIED_SQLSTATES:
                raise
            connection.rollback()
            report("another transaction has locked a table: the migration is tried again")
            time.sleep(_RETRY_PAUSE_S)


def migration_status(database: Database) -> list[MigrationStatus]:
    """Return the status of every migration, oldest first. Raises DatabaseNotReady."""
    return [
        MigrationStatus(_revision(file), _summary(file), is_applied)
        for file, is_applied in _read_statuses(database).items()
    ]


def pending_sql(database: Database) -> str:
    """Return the SQL of the missing migrations. Raises DatabaseNotReady."""
    from livebackend.database.alembic_commands import upgrade_sql  # noqa: PLC0415

    applied_revisions = [
        _revision(file) for file, is_applied in _read_statuses(database).items() if is_applied
    ]
    return upgrade_sql(migrations_folder(), applied_revisions[-1] if applied_revisions else "base")


def check_migrated(database: Database, *, reachable_only: bool = False) -> None:
    """Raise DatabaseNotReady if the database is unreachable or a migration is missing.

    The error is DatabaseUnavailable if the database is unreachable.
    With `reachable_only`, missing migrations are accepted; UnsupportedSchema is still raised.
    """
    are_applied = _read_statuses(database).values()
    if not (reachable_only or all(are_applied)):
        raise MigrationsMissing("migrations are missing: run `livebackend migrate`")


@contextmanager
def _database_errors_converted() -> Iterator[None]:
    """Convert database errors to DatabaseNotReady, which is reported to the operator."""
    try:
        yield
    except ProgrammingError as error:
        # Without SQLSTATE, the message is of the driver, and can contain a part of the URL.
        if getattr(error.orig, "pgcode", None) is not None:
            raise DatabaseNotReady(f"database.url: {str(error.orig).strip()}") from error
        raise DatabaseNotReady("database.url: has an invalid parameter") from None
    except (OperationalError, InterfaceError, InternalError) as error:
        message = f"database.url: {str(error.orig).strip()}"
        if _REJECTED_URL.search(message):
            raise DatabaseNotReady(message) from error
        raise DatabaseUnavailable(message) from error
    except PoolTimeout as error:
        raise DatabaseUnavailable("database.url: all connections are in use") from error
    except DBAPIError as error:
        raise DatabaseNotReady(f"database.url: {str(error.orig).strip()}") from error


def _read_statuses(database: Database) -> dict[Traversable, bool]:
    with _database_errors_converted():
        return database.run_autocommit(_are_applied)


def _are_applied(connection: Connection) -> dict[Traversable, bool]:
    """Return for each file of a migration whether it is applied, oldest first.

    If the database has migrations of a later version, all migrations of this version count as
    applied: during an upgrade, workers of this version run and start on the upgraded database.
    Raises UnsupportedSchema.
    """
    has_revision = connection.execute(_HAS_REVISION).scalar_one()
    current = connection.execute(_READ_REVISION).scalar() if has_revision else None
    if current in _UNRELEASED_REVISIONS:
        raise UnsupportedSchema(current)
    migration_files = _migration_files()
    is_later_version = current is not None and current not in map(_revision, migration_files)
    return {
        file: is_later_version or (current is not None and _revision(file) <= current)
        for file in migration_files
    }


def _migration_files() -> list[Traversable]:
    versions = (migrations_folder() / "versions").iterdir()
    return sorted(
        (file for file in versions if _MIGRATION_FILE.fullmatch(file.name)), key=_revision
    )


def _revision(file: Traversable) -> str:
    return file.name[:4]


def _summary(file: Traversable) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return docstring.partition("\n\n")[0]


def migrations_folder() -> Traversable:
    """Return the migrations folder of the installed package or of a checkout.

    In a checkout, the folder is next to the package `livebackend`, so Python cannot import
    `livebackend.migrations`.
    """
    try:
        return files("livebackend.migrations")
    except ModuleNotFoundError:
        return Path(__file__).parents[2] / "migrations"


def _lock_migrations(connection: Connection) -> None:
    """Wait until no other process runs migrations, for at most an hour."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while not connection.execute(_TRY_LOCK_MIGRATIONS).scalar_one():
        connection.commit()
        if time.monotonic() > deadline:
            raise DatabaseNotReady(
                "database.url: another process has run migrations for an hour; wait, or end it"
            )
        time.sleep(_LOCK_PAUSE_S)
    connection.commit()


def _reporter(report: Callable[[str], None]) -> Callable[..., None]:
    """Return the callback that Alembic calls after each migration."""
    started_at = time.monotonic()

    def report_applied(*, step: Any, **_: Any) -> None:
        elapsed_s = time.monotonic() - started_at
        report(f"{step.up_revision.revision} {step.up_revision.doc} (after {elapsed_s:.1f} s)")

    return report_applied
