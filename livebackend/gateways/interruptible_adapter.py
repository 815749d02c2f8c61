"""A `requests` adapter whose connection another thread can close."""

import socket
from contextlib import suppress
from threading import Lock
from typing import Any

from requests.adapters import HTTPAdapter


class InterruptibleAdapter(HTTPAdapter):
    """A `requests` adapter for one call, whose connection another thread can close.

    A socket timeout is not enough, because it limits each read separately: a response that arrives
    byte by byte would never time out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()
        self._socket: socket.socket | None = None
        self._is_closed = False

    def close_connection(self) -> None:
        """Close the connection; a connection that opens later is closed immediately."""
        with self._lock:
            self._is_closed = True
            self._close_socket()

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        adapter, connection_class = self, pool.ConnectionCls

        class Connection(connection_class):  # type: ignore[misc, valid-type]
            def _new_conn(self) -> socket.socket:
                new_socket: socket.socket = super()._new_conn()
                adapter.register_socket(new_socket)
                return new_socket

        pool.ConnectionCls = Connection
        return pool

    def register_socket(self, new_socket: socket.socket) -> None:
        with self._lock:
            # The adapter stores a duplicate, because TLS detaches the original file descriptor.
            self._socket = new_socket.dup()
            if self._is_closed:
                self._close_socket()

    def _close_socket(self) -> None:
        if self._socket is None:
            return
        with suppress(OSError):  # raised if the server has already closed the connection
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._socket = None
