"""Checks of database, migrations, disk and clock, for probes and diagnostics."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.config.errors import SettingsError
from livebackend.core.errors import CommitOutcomeUnknown
from livebackend.database.engine import Database, is_connection_lost
from livebackend.database.migrations import MigrationsMissing, UnsupportedSchema, check_migrated

CHECK_TIMEOUT_S = 1.5
# Time for warning checks after the other checks have ended. The results of these would be outdated
# if a hanging warning check delayed the response further.
_WARNING_TIMEOUT_S = 0.2
# A larger difference between two clocks makes login tokens expire too early or too late.
MAX_CLOCK_SKEW_S = 30.0
CLOCK_REMEDY = (
    "Run a time service on this machine and on the database's (`timedatectl set-ntp true`): the"
    " expiry of tokens and codes depends on them."
)
_READ_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())::float8")
# Connections that are reserved for superusers and other roles do not count. A limit of -1 is none.
_READ_CONNECTION_LIMIT = text(
    """
    SELECT least(
        current_setting('max_connections')::int
            - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true)::int, 0),
        (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
        (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
    )
    """
)
# The checks of the database together take a few milliseconds, and each client can request them.
_DATABASE_CHECK_INTERVAL_S = 0.5
# Writes a temporary file of about 0.5 MB and a WAL record, and changes no table. PostgreSQL deletes
# the file at once. The COMMIT waits for the disk, but not for the standby: reads work without it.
# As one string, the statements are one transaction, also in autocommit mode.
_WRITE_PROBE = """
    SET LOCAL work_mem = '64kB';
    SET LOCAL synchronous_commit = local;
    SELECT count(*) FROM generate_series(1, 20000);
    SELECT pg_logical_emit_message(true, 'livebackend', '')
"""
_MIGRATE_REMEDY = "Run `livebackend migrate` with the same ini file."

Check = Callable[[], None]


class CheckFailed(Exception):
    """A check failed; `remedy` says what the operator must do."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class ProbeResult(NamedTuple):
    """The messages of failed checks and of warnings, by check name; empty if all pass."""

    failures: dict[str, str]
    warnings: dict[str, str]


class ReadinessProbe:
    """Runs checks concurrently and waits at most `timeout_s` for them, and shortly for warnings.

    A check that hangs (on a network disk, for example) occupies only one thread, even if many
    requests need its result. The server can serve requests although a check of `warning_checks`
    fails.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        warning_checks: Mapping[str, Check] = MappingProxyType({}),
        timeout_s: float = CHECK_TIMEOUT_S,
    ) -> None:
        self._checks = {**checks, **warning_checks}
        self._warning_names = warning_checks.keys()
        self._timeout_s = timeout_s
        self._executor = ThreadPoolExecutor(len(self._checks), thread_name_prefix="readiness")
        self._running: dict[str, Future[None]] = {}

    def run(self) -> ProbeResult:
        """Run all checks and return their messages."""
        for name, check in self._checks.items():
            if name not in self._running or self._running[name].done():
                self._running[name] = self._submit(check)
        future_by_check_name = dict(self._running)
        warning_futures = [future_by_check_name[name] for name in self._warning_names]
        wait(set(future_by_check_name.values()).difference(warning_futures), self._timeout_s)
        wait(warning_futures, _WARNING_TIMEOUT_S)
        result = ProbeResult({}, {})
        for name, future in future_by_check_name.items():
            is_warning = name in self._warning_names
            timeout_s = _WARNING_TIMEOUT_S if is_warning else self._timeout_s
            if message := _message(future, timeout_s):
                (result.warnings if is_warning else result.failures)[name] = message
        return result

    def _submit(self, check: Check) -> Future[None]:
        try:
            return self._executor.submit(check)
        except RuntimeError as error:  # the system cannot start a thread
            future: Future[None] = Future()
            future.set_exception(CheckFailed(f"the check did not start: {error}", remedy=""))
            return future


def readiness_checks(
    database: Database, *, request_database: Database, data_dir: Path
) -> dict[str, Check]:
    """Return the readiness checks of a server.

    `database` must have its own pool; requests use the pool of `request_database`.
    Free disk space is not checked: clients can use it up by uploads, and only uploads need it.
    """
    return {
        "database": RecentCheck(lambda: check_database(database), _DATABASE_CHECK_INTERVAL_S),
        "connections": lambda: check_pool(request_database),
        "migrations": lambda: check_migrations(database),
        "disk": lambda: check_writable(data_dir),
    }


class RecentCheck:
    """Runs a check again only if its last result is older than `max_age_s`."""

    def __init__(
        self, check: Check, max_age_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._check = check
        self._max_age_s = max_age_s
        self._clock = clock
        self._checked_at = float("-inf")
        self._error: CheckFailed | None = None

    def __call__(self) -> None:
        if self._clock() - self._checked_at > self._max_age_s:
            self._error = self._run()
            self._checked_at = self._clock()
        if self._error:
            raise self._error

    def _run(self) -> CheckFailed | None:
        try:
            self._check()
        except CheckFailed as error:
            return error
        return None


def check_database(database: Database) -> None:
    """Raise CheckFailed if the database is unreachable, is read-only or cannot write."""
    try:
        is_read_only = database.run(_write_unless_read_only)
    except (DBAPIError, PoolTimeout, CommitOutcomeUnknown) as error:
        reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        if not is_connection_lost(error):
            raise CheckFailed(
                f"PostgreSQL cannot write: {reason}",
                remedy="Check the free disk space and the log of PostgreSQL.",
            ) from None
        raise CheckFailed(
            f"PostgreSQL cannot be reached: {reason}",
            remedy="Check that PostgreSQL runs, and the host, user and password in database.url.",
        ) from None
    if is_read_only:
        raise CheckFailed(
            "PostgreSQL is read-only", remedy="Point database.url to the primary, not to a standby."
        )


def check_pool(database: Database) -> None:
    """Raise CheckFailed if requests get no connection of the pool."""
    if not database.availability.is_available:
        raise CheckFailed(
            "PostgreSQL does not respond", remedy="Check that PostgreSQL and the network work."
        )
    if database.pool.is_stuck:
        raise CheckFailed(
            "all database connections are in use by slow requests",
            remedy="Look for locks and slow statements in pg_stat_activity.",
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


def check_start(*, is_complete: bool) -> None:
    """Raise CheckFailed if the server has not yet been able to use the database."""
    if not is_complete:
        raise CheckFailed(
            "the server has not yet been able to use the database: it tries again continuously",
            remedy="Read the log of the server.",
        )


def check_writable(folder: Path) -> None:
    """Raise CheckFailed if the folder is not writable; a full disk passes."""
    existing_path = _existing_path(folder)
    # Also false for a file system that is mounted read-only.
    if not (existing_path.is_dir() and os.access(existing_path, os.W_OK | os.X_OK)):
        raise CheckFailed(
            f"{folder} cannot be written",
            remedy="Check the owner of data.dir, and whether its file system is read-only.",
        )


def check_disk(folder: Path, *, min_free_bytes: int) -> None:
    """Raise CheckFailed if the folder is not writable or has too little free space."""
    remedy = (
        "Free disk space, or set data.dir (LIVEBACKEND_DATA_DIR) to a folder with enough space."
    )
    try:
        existing_folder = _existing_path(folder)
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


def check_connection_limit(database: Database, *, required: int) -> None:
    """Raise CheckFailed if PostgreSQL allows fewer connections than a server can open."""
    with database.engine.connect() as connection:
        allowed: int = connection.execute(_READ_CONNECTION_LIMIT).scalar_one()
    if allowed < required:
        raise CheckFailed(
            f"this server can open {required} database connections, but PostgreSQL allows"
            f" {allowed}",
            remedy="Increase max_connections of PostgreSQL (or the limit of the role or database),"
            " or decrease database.connections or server.workers.",
        )


def check_clock(database: Database, clock: Callable[[], float] = time.time) -> None:
    """Raise CheckFailed if this machine's clock differs from PostgreSQL's.

    `clock` returns seconds since 1970.
    """
    ahead_s = database_ahead_s(database, clock)
    skew = describe_skew(ahead_s) if ahead_s is not None else None
    if skew:
        raise CheckFailed(
            f"compared with this machine's clock, the database is {skew}", remedy=CLOCK_REMEDY
        )


def database_ahead_s(database: Database, clock: Callable[[], float]) -> float | None:
    """Return the seconds that PostgreSQL's clock is ahead of this machine's.

    Returns None if the database is unavailable; the database check reports that.
    """
    try:
        return database.run_autocommit(partial(_measure_ahead_s, clock=clock))
    except (DBAPIError, PoolTimeout):
        return None


def _measure_ahead_s(connection: Connection, *, clock: Callable[[], float]) -> float:
    query_start_s = clock()
    database_time_s: float = connection.execute(_READ_CLOCK).scalar_one()
    return database_time_s - (query_start_s + clock()) / 2


def describe_skew(ahead_s: float) -> str | None:
    """Return the difference of two clocks in words; None if it is small."""
    if abs(ahead_s) <= MAX_CLOCK_SKEW_S:
        return None
    return f"{abs(ahead_s):,.0f} s {'ahead' if ahead_s > 0 else 'behind'}"


def _write_unless_read_only(connection: Connection) -> bool:
    """Write, or return whether the connection is read-only."""
    if connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() == "on":
        return True
    connection.exec_driver_sql(_WRITE_PROBE)
    return False


def _existing_path(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _message(future: Future[None], timeout_s: float) -> str | None:
    if not future.done():
        return f"the check did not end within {timeout_s:g} s"
    try:
        future.result()
    except CheckFailed as error:
        return str(error)
    return None
