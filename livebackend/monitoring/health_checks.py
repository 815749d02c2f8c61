"""Whether this server can do its work now: what a load balancer and an operator ask."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from livebackend.config.errors import SettingsError
from livebackend.database.engine import Database
from livebackend.database.migrations import MigrationsMissing, UnsupportedSchema, check_migrated

WAIT_S = 2.0
_MIGRATE = "Run `livebackend migrate` with the same ini file."

Check = Callable[[], None]


class Fault(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, says: str, *, do: str) -> None:
        super().__init__(says)
        self.do = do


class Readiness:
    """Runs checks, each by itself and waited for no longer than `wait_s`.

    One that hangs (a disk on a network does) holds one thread, however often it is asked for.
    """

    def __init__(self, checks: Mapping[str, Check], *, wait_s: float = WAIT_S) -> None:
        self._checks = checks
        self._wait_s = wait_s
        self._threads = ThreadPoolExecutor(len(checks), thread_name_prefix="readiness")
        self._running: dict[str, Future[None]] = {}

    def faults(self) -> dict[str, str]:
        """What is wrong, by the name of the check; nothing, when all is well."""
        for name, check in self._checks.items():
            if name not in self._running or self._running[name].done():
                self._running[name] = self._threads.submit(check)
        running = dict(self._running)
        wait(running.values(), self._wait_s)
        found = {name: self._fault(future) for name, future in running.items()}
        return {name: says for name, says in found.items() if says}

    def _fault(self, future: Future[None]) -> str | None:
        if not future.done():
            return f"no answer within {self._wait_s:g} s"
        try:
            future.result()
        except Fault as fault:
            return str(fault)
        return None


def checks_of(database: Database, *, folder: Path, free_bytes_min: int) -> dict[str, Check]:
    """What must be well for a server to take calls. `database` is the checks' alone."""
    return {
        "database": lambda: check_database(database),
        "migrations": lambda: check_migrations(database),
        "disk": lambda: check_disk(folder, free_bytes_min=free_bytes_min),
    }


def check_database(database: Database) -> None:
    """Raises Fault where the database does not answer, or takes no writes."""
    try:
        with database.engine.connect() as connection:
            read_only = connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
    except (DBAPIError, NoConnection) as error:
        said = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        raise Fault(
            f"it cannot be reached: {said}",
            do="See that PostgreSQL runs, and that database.url names its host, user and password.",
        ) from None
    if read_only:
        raise Fault("it takes no writes", do="Point database.url to the primary, not to a standby.")


def check_migrations(database: Database) -> None:
    """Raises Fault for tables that are behind the code, too old to upgrade, or cannot be read."""
    try:
        check_migrated(database)
    except UnsupportedSchema as error:
        raise Fault(error.problem, do=f"{error.remedy.capitalize()}.") from None
    except MigrationsMissing:
        raise Fault("the tables are behind the code", do=_MIGRATE) from None
    except (SettingsError, DBAPIError, NoConnection):
        raise Fault("the tables cannot be read", do=_MIGRATE) from None


def check_disk(folder: Path, *, free_bytes_min: int) -> None:
    """Raises Fault where pictures cannot be written, or would leave too little room."""
    mend = "Make room, or set var.dir (LIVEBACKEND_VAR_DIR) to a folder that has it."
    try:
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
        # It is gone again before anybody sees it.
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Fault(f"{folder} cannot be written: {error.strerror}", do=mend) from None
    if free < free_bytes_min:
        raise Fault(
            f"{folder} has {free:,} bytes free, less than pictures.free_bytes_min"
            f" ({free_bytes_min:,}): no picture is taken",
            do=mend,
        )
