"""Detection of a PostgreSQL server that does not respond."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg2
from sqlalchemy.exc import OperationalError

T = TypeVar("T")
# Seconds that a call waits while another call tests PostgreSQL. A test that succeeds is faster.
_TEST_WAIT_S = 0.2
log = logging.getLogger(__name__)


class DatabaseNotResponding(OperationalError):
    """PostgreSQL does not respond: the call failed without an attempt."""

    def __init__(self, message: str) -> None:
        super().__init__(None, None, psycopg2.OperationalError(message))


class Availability:
    """Whether PostgreSQL responds; shared by all connection pools of a process.

    After a call that did not end before its deadline, PostgreSQL is assumed to be unavailable,
    unless another call has ended since that call began. Then one call at a time tests a new
    connection, and the others fail soon. Otherwise, calls that wait would occupy all threads of the
    worker.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._testing = threading.Lock()
        self._responded_at = float("-inf")
        self._available = threading.Event()
        self._available.set()
        # Connections that were opened before this time are replaced: they can be dead.
        self.connections_valid_from = float("-inf")

    @property
    def is_available(self) -> bool:
        """Whether calls are attempted."""
        return self._available.is_set()

    def record_response(self) -> None:
        self._responded_at = self._clock()
        if not self.is_available:
            self._available.set()
            log.warning("database: PostgreSQL responds again")

    def record_silence(self, *, since: float) -> None:
        """Record that PostgreSQL did not respond to a call that began at `since`.

        Connections that were opened earlier are replaced, also if newer ones got responses: they
        are dead if another host has taken the address of PostgreSQL.
        """
        self.connections_valid_from = max(self.connections_valid_from, since)
        if self._responded_at < since and self.is_available:
            self._available.clear()
            log.error("database: PostgreSQL does not respond, calls fail until it does")

    def call(self, work: Callable[[], T]) -> T:
        """Call `work` and return its result.

        Raises DatabaseNotResponding if PostgreSQL does not respond and another call tests it.
        """
        if self.is_available:
            return work()
        if self._testing.acquire(blocking=False):
            try:
                return work()
            finally:
                self._testing.release()
        if self._available.wait(_TEST_WAIT_S):
            return work()
        raise DatabaseNotResponding("PostgreSQL does not respond")
