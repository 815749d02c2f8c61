"""The database gate: rejects requests until the database can be used for the first time."""

import logging
from collections.abc import Callable

from livebackend.config.errors import DatabaseNotReady, DatabaseUnavailable
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.database.availability import DatabaseNotResponding
from livebackend.database.engine import Database
from livebackend.database.migrations import MigrationsMissing, check_migrated, migrate
from livebackend.monitoring.startup_checks import warn_of_clock_skew

log = logging.getLogger(__name__)

_RETRY_PAUSE_S = 0.5
# After an error that only an operator can fix. A failed migration can have taken minutes.
_FAILURE_PAUSE_S = 30.0
_CLOSE_TIMEOUT_S = 3.0


class DatabaseGate:
    """Open as soon as the database has been reachable with all migrations; then it stays open.

    A worker starts without waiting for the database. With `migrates`, the gate runs the missing
    migrations. Later failures of the database are failures of the requests that need it.
    """

    def __init__(self, database: Database, *, migrates: bool) -> None:
        self._database = database
        self._migrates = migrates
        self._opened = False
        self._reported_problem = ""
        self._on_open: Callable[[], None] = lambda: None
        self.thread = SupervisedThread(
            "database gate", self._wait_until_open, max_pause_s=_FAILURE_PAUSE_S
        )

    @property
    def is_open(self) -> bool:
        """Whether the database was usable once."""
        return self._opened

    def require_open(self) -> None:
        """Raise DatabaseNotResponding while the gate is closed."""
        if not self._opened:
            raise DatabaseNotResponding("the database has not been usable since the start")

    def try_to_open(self) -> None:
        """Open the gate, unless the database is unreachable.

        Raises DatabaseNotReady if the database is reachable and cannot be used.
        """
        try:
            self._open()
        except DatabaseUnavailable as error:
            self._report(error)

    def start(self, on_open: Callable[[], None]) -> None:
        """Call `on_open` once the gate is open. Until then, a thread tries to open it."""
        if self._opened:
            on_open()
            return
        self._on_open = on_open
        self.thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self.thread.close(_CLOSE_TIMEOUT_S)

    def _wait_until_open(self) -> None:
        pause_s = _RETRY_PAUSE_S
        while not self._opened and not self.thread.closing.wait(pause_s):
            pause_s = _RETRY_PAUSE_S
            try:
                self._open()
            except (DatabaseUnavailable, MigrationsMissing) as error:
                self._report(error)
            except DatabaseNotReady as error:
                self._report(error)
                pause_s = _FAILURE_PAUSE_S
            else:
                log.warning("database: usable now, requests are accepted")
                self._on_open()

    def _open(self) -> None:
        if self._migrates:
            migrate(self._database, report=log.info)
        check_migrated(self._database)
        warn_of_clock_skew(self._database)
        self._opened = True

    def _report(self, error: DatabaseNotReady) -> None:
        problem = "; ".join(error.errors)
        if problem != self._reported_problem:
            log.warning("database: requests are rejected until it can be used: %s", problem)
        self._reported_problem = problem
