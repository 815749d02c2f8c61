"""Detection of a PostgreSQL server that does not respond."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg2
from sqlalchemy.exc import OperationalError

T = TypeVar("T")
log = logging.getLogger(__name__)


class DatabaseNotResponding(OperationalError):
    """PostgreSQL does not respond: the call failed without an attempt."""

    def __init__(self, message: str) -> None:
        super().__init__(None, None, psycopg2.OperationalError(message))


class Availability:
    """Whether PostgreSQL responds; shared by all connection pools of a process.

    PostgreSQL is unavailable if a call got no response before its deadline, and no other call that
    ended later got one. Then one call at a time tests a new connection, and the others fail
    immediately. Otherwise, calls that wait would occupy all threads of the worker.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._testing = threading.Lock()
        self._responded_at = float("-inf")
        self.is_available = True
        # Connections that were opened before this time are replaced: they can be dead.
        self.connections_valid_from = float("-inf")

    def record_response(self) -> None:
        self._responded_at = self._clock()
        if not self.is_available:
            self.is_available = True
            log.warning("database: PostgreSQL responds again")

    def record_silence(self, *, since: float) -> None:
        """Record that PostgreSQL did not respond to a call that began at `since`."""
        if self._responded_at < since:
            self.connections_valid_from = self._clock()
            if self.is_available:
                self.is_available = False
                log.error("database: PostgreSQL does not respond, calls fail until it does")

    def call(self, work: Callable[[], T]) -> T:
        """Call `work` and return its result.

        Raises DatabaseNotResponding if PostgreSQL does not respond and another call tests it.
        """
        if self.is_available:
            return work()
        if not self._testing.acquire(blocking=False):
            raise DatabaseNotResponding("PostgreSQL does not respond")
        try:
            return work()
        finally:
            self._testing.release()
