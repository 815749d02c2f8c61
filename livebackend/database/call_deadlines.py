"""Deadlines of database calls that also apply when PostgreSQL does not respond at all.

`statement_timeout` needs a PostgreSQL that runs. The timeouts of TCP need packets that are not
acknowledged, but a kernel also acknowledges packets to a frozen process. libpq and psycopg2 have no
timeout for a response.
"""

import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

from livebackend.core.request_context import database_budget
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.database.availability import Availability, DatabaseNotResponding

T = TypeVar("T")
log = logging.getLogger(__name__)

_CHECK_INTERVAL_S = 0.25
# A pool is stuck while all of its connections are in use for longer than this.
_STUCK_AFTER_S = 1.0
# Calls that wait for a lock end all at once, and the next calls wait again. Without this time, a
# stuck pool would seem to recover in between.
_STUCK_FOR_S = 1.5
# libpq counts the timeout of a new connection in whole seconds, and separately for each host.
MIN_CONNECT_TIMEOUT_S = 1
_MULTIPLE_HOSTS_TIMEOUT_S = 3
_SOCKET, _OPENED_AT = "livebackend_socket", "livebackend_opened_at"
_NO_DEADLINE = float("inf")

_call_deadline: ContextVar[float] = ContextVar("call_deadline", default=_NO_DEADLINE)


def call_with_deadline(work: Callable[[float], T], timeout_s: float) -> T:
    """Call `work` with the deadline of its database calls, and return its result.

    The deadline is a time.monotonic() value. In a request, it is not later than the request's
    budget allows, and the duration of the call is subtracted from the budget. In nested calls, the
    earliest deadline applies. Raises DatabaseNotResponding if no time remains.
    """
    started_at = time.monotonic()
    budget = database_budget.get()
    outer_deadline = _call_deadline.get()
    if budget is not None:
        timeout_s = min(timeout_s, budget.remaining_s)
    deadline = min(outer_deadline, started_at + timeout_s)
    if deadline <= started_at:
        raise DatabaseNotResponding("the request has waited too long for PostgreSQL")
    token = _call_deadline.set(deadline)
    try:
        return work(deadline)
    finally:
        _call_deadline.reset(token)
        if budget is not None and outer_deadline == _NO_DEADLINE:
            budget.remaining_s -= time.monotonic() - started_at


class WatchedPool:
    """Limits the duration of each use of an engine's connections.

    A use lasts from the checkout of a connection until its return to the pool, ROLLBACK included.
    """

    def __init__(
        self,
        engine: Engine,
        availability: Availability,
        *,
        size: int,
        timeout_s: float,
        connect_timeout_s: int | None,
    ) -> None:
        """Watch an engine; `connect_timeout_s` is None if its URL has a timeout."""
        self.size = size
        self.availability = availability
        # The last time.monotonic() value at which the pool was stuck.
        self.stuck_at = float("-inf")
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        event.listen(engine, "do_connect", self._connect)
        # Before SQLAlchemy's own listener, which executes statements on the first connection.
        event.listen(engine, "connect", self._watch_opened, insert=True)
        event.listen(engine, "checkout", self._watch_checked_out)
        event.listen(engine, "checkin", self._unwatch)
        event.listen(engine, "close", self._close_socket)

    @property
    def is_stuck(self) -> bool:
        """Whether all connections are, or recently were, in use for longer than a second."""
        return time.monotonic() - self.stuck_at < _STUCK_FOR_S

    def _connect(
        self, dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]
    ) -> Any:
        if self._connect_timeout_s is not None:
            host_count = str(parameters.get("host", "")).count(",") + 1
            parameters["connect_timeout"] = self._host_timeout_s(host_count)
        started_at = time.monotonic()
        try:
            connection = dialect.connect(*arguments, **parameters)
        except dialect.dbapi.OperationalError:
            # A refused connection is a response of the host, and fails immediately anyway.
            if time.monotonic() - started_at >= MIN_CONNECT_TIMEOUT_S * 0.9:
                self.availability.record_silence(since=started_at)
            raise
        self.availability.record_response()
        return connection

    def _host_timeout_s(self, host_count: int) -> int:
        total_s = self._connect_timeout_s if host_count == 1 else _MULTIPLE_HOSTS_TIMEOUT_S
        remaining_s = min(total_s or 0, _call_deadline.get() - time.monotonic())
        return max(MIN_CONNECT_TIMEOUT_S, int(remaining_s / host_count))

    def _watch_opened(self, connection: Any, record: Any) -> None:
        _watchdog.thread.start()
        record.info[_SOCKET] = _SocketCopy.of(connection)
        record.info[_OPENED_AT] = time.monotonic()
        self._watch(record)

    def _watch_checked_out(self, _connection: Any, record: Any, _proxy: Any) -> None:
        if record.info[_OPENED_AT] < self.availability.connections_valid_from:
            raise DisconnectionError  # the pool opens a new connection
        self._watch(record)

    def _watch(self, record: Any) -> None:
        now = time.monotonic()
        deadline = min(_call_deadline.get(), now + self._timeout_s)
        _watchdog.watch(record.info[_SOCKET], _Use(self, now, deadline))

    def _unwatch(self, connection: Any, record: Any) -> None:
        if connection is not None:  # None: the connection was lost
            _watchdog.unwatch(record.info[_SOCKET])
            self.availability.record_response()

    @staticmethod
    def _close_socket(_connection: Any, record: Any) -> None:
        connection_socket = record.info.pop(_SOCKET, None)
        if connection_socket is not None:
            _watchdog.unwatch(connection_socket)
            connection_socket.close()


def remove_deadline(connection: Connection) -> None:
    """Allow the current use of a connection to take as long as it needs."""
    _watchdog.unwatch(connection.connection.info[_SOCKET])


class _SocketCopy(socket.socket):
    """A duplicate of a connection's socket.

    libpq can close its own file descriptor at any time, and the number can then belong to another
    file. The duplicate belongs to the same connection until it is closed.
    """

    @classmethod
    def of(cls, connection: Any) -> "_SocketCopy":
        # socket.dup() would make both sockets blocking: libpq would wait for more data after it has
        # read a response of more than 32 kB.
        return cls(fileno=os.dup(connection.fileno()))

    def __del__(self) -> None:
        self.close()


class _Use(NamedTuple):
    """The use of a connection since `started_at`, which must end before `deadline`."""

    pool: WatchedPool
    started_at: float
    deadline: float


class _Watchdog:
    """A thread that shuts down the sockets of connections that are used after their deadline.

    The call that uses the connection then fails like one whose connection was lost.
    """

    def __init__(self) -> None:
        # Reentrant: the garbage collector can return a connection while this thread has the lock.
        self._lock = threading.RLock()
        self._uses: dict[_SocketCopy, _Use] = {}
        self.thread = SupervisedThread("database deadlines", self._run)

    def watch(self, connection_socket: _SocketCopy, use: _Use) -> None:
        with self._lock:
            self._uses[connection_socket] = use

    def unwatch(self, connection_socket: _SocketCopy) -> None:
        with self._lock:
            self._uses.pop(connection_socket, None)

    def check(self) -> None:
        """Shut down the sockets of expired uses, and find stuck pools."""
        now = time.monotonic()
        with self._lock:
            uses = list(self._uses.items())
            expired = [(connection, use) for connection, use in uses if use.deadline < now]
            # The lock prevents the shutdown of a connection that has returned to the pool.
            for connection_socket, _ in expired:
                self._uses.pop(connection_socket, None)
                with suppress(OSError):  # the connection is already lost
                    connection_socket.shutdown(socket.SHUT_RDWR)
        for _, use in expired:
            use.pool.availability.record_silence(since=use.started_at)
        if expired:
            log.warning("database: %s connections shut down, deadline exceeded", len(expired))
        long_uses = Counter(use.pool for _, use in uses if now - use.started_at > _STUCK_AFTER_S)
        for pool, count in long_uses.items():
            if count >= pool.size:
                pool.stuck_at = now

    def _run(self) -> None:
        while not self.thread.closing.wait(_CHECK_INTERVAL_S):
            self.check()


_watchdog = _Watchdog()
# The thread of all pools of this process. It ends with the process.
deadlines_thread = _watchdog.thread
