"""Checks of database, migrations and disk for readiness probes and diagnostics."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.config.errors import SettingsError
from livebackend.database.engine import Database
from livebackend.database.migrations import MigrationsMissing, UnsupportedSchema, check_migrated

CHECK_TIMEOUT_S = 2.0
_MIGRATE_REMEDY = "Run `livebackend migrate` with the same ini file."

Check = Callable[[], None]


class CheckFailed(Exception):
    """A check failed; `remedy` says what the operator must do."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class ReadinessProbe:
    """Runs checks concurrently and waits at most `timeout_s` for all of them.

    A check that hangs (on a network disk, for example) occupies only one thread, even if many
    requests need its result.
    """

    def __init__(self, checks: Mapping[str, Check], *, timeout_s: float = CHECK_TIMEOUT_S) -> None:
        self._checks = checks
        self._timeout_s = timeout_s
        self._executor = ThreadPoolExecutor(len(checks), thread_name_prefix="readiness")
        self._running: dict[str, Future[None]] = {}

    def failures(self) -> dict[str, str]:
        """Return the messages of failed checks, by check name; empty if all pass."""
        for name, check in self._checks.items():
            if name not in self._running or self._running[name].done():
                self._running[name] = self._executor.submit(check)
        future_by_check_name = dict(self._running)
        wait(future_by_check_name.values(), self._timeout_s)
        messages = {name: self._message(future) for name, future in future_by_check_name.items()}
        return {name: message for name, message in messages.items() if message}

    def _message(self, future: Future[None]) -> str | None:
        if not future.done():
            return f"the check did not end within {self._timeout_s:g} s"
        try:
            future.result()
        except CheckFailed as error:
            return str(error)
        return None


def readiness_checks(
    database: Database, *, data_dir: Path, min_free_bytes: int
) -> dict[str, Check]:
    """Return the readiness checks of a server; `database` must have its own pool."""
    return {
        "database": lambda: check_database(database),
        "migrations": lambda: check_migrations(database),
        "disk": lambda: check_disk(data_dir, min_free_bytes=min_free_bytes),
    }


def check_database(database: Database) -> None:
    """Raise CheckFailed if the database is unreachable or read-only."""
    try:
        with database.engine.connect() as connection:
            is_read_only = (
                connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
            )
    except (DBAPIError, PoolTimeout) as error:
        reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        raise CheckFailed(
            f"PostgreSQL cannot be reached: {reason}",
            remedy="Check that PostgreSQL runs, and the host, user and password in database.url.",
        ) from None
    if is_read_only:
        raise CheckFailed(
            "PostgreSQL is read-only", remedy="Point database.url to the primary, not to a standby."
        )


def check_migrations(database: Database) -> None:
    """Raise CheckFailed if the schema is out of date, unsupported or unreadable."""
    try:
        check_migrated(database)
    except UnsupportedSchema as error:
        raise CheckFailed(error.problem, remedy=f"{error.remedy.capitalize()}.") from None
    except MigrationsMissing:
        raise CheckFailed("the database schema is out of date", remedy=_MIGRATE_REMEDY) from None
    except (SettingsError, DBAPIError, PoolTimeout):
        raise CheckFailed("the schema version cannot be read", remedy=_MIGRATE_REMEDY) from None


def check_disk(folder: Path, *, min_free_bytes: int) -> None:
    """Raise CheckFailed if the folder is not writable or has too little free space."""
    remedy = (
        "Free disk space, or set data.dir (LIVEBACKEND_DATA_DIR) to a folder with enough space."
    )
    try:
        existing_folder = next(path for path in (folder, *folder.parents) if path.exists())
        free_bytes = shutil.disk_usage(existing_folder).free
        with tempfile.TemporaryFile(dir=existing_folder) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckFailed(f"{folder} cannot be written: {error.strerror}", remedy=remedy) from None
    if free_bytes < min_free_bytes:
        raise CheckFailed(
            f"{folder} has {free_bytes:,} bytes free, less than pictures.min_free_disk_bytes"
            f" ({min_free_bytes:,}): uploads are rejected",
            remedy=remedy,
        )
