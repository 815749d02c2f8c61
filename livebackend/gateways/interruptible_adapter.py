"""A connection of `requests` that another thread can end."""

import socket
from contextlib import suppress
from threading import Lock
from typing import Any

from requests.adapters import HTTPAdapter


class InterruptibleAdapter(HTTPAdapter):
    """The connection of one call, which another thread can end at its deadline.

    A socket timeout limits each read only: a response can arrive byte by byte for days.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    def cut(self) -> None:
        """End the connection; one that is made later ends at once."""
        with self._lock:
            self._is_cut = True
            self._end()

    def get_connection_with_tls_context(self, *given: Any, **named: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*given, **named)
        adapter, kind = self, pool.ConnectionCls

        class Connection(kind):  # type: ignore[misc, valid-type]  # for HTTP, or for HTTPS
            def _new_conn(self) -> socket.socket:
                made: socket.socket = super()._new_conn()
                adapter.hold(made)
                return made

        pool.ConnectionCls = Connection
        return pool

    def hold(self, made: socket.socket) -> None:
        with self._lock:
            # A second handle: TLS wraps the first one.
            self._socket = made.dup()
            if self._is_cut:
                self._end()

    def _end(self) -> None:
        if self._socket is None:
            return
        with suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._socket = None
