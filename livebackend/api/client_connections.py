"""Detects that the client of a waiting request has closed its connection."""

import os
import socket
import threading
from pathlib import Path

from livebackend.core.request_context import ConnectionCheck

# The port of a socket that is no client connection.
_NO_PORT = 0


class ClientConnections:
    """The client connections of this process, by the sockets that it has open.

    WSGI has no signal for a closed connection, and Granian does not say which socket a request
    came from. But Granian closes a socket as soon as the client has closed its side. So no client
    waits for a response if all sockets that were open when the request began are closed.
    """

    def __init__(self, descriptor_folder: Path = Path("/proc/self/fd")) -> None:
        self._descriptor_folder = descriptor_folder
        self._lock = threading.Lock()
        # The local port of each open socket, by its name in /proc.
        self._ports: dict[str, int] = {}
        self._listening_ports: set[int] = set()

    def watch(self, server_port: int) -> ConnectionCheck:
        """Return a function that returns whether a client can still wait for the response.

        Call this method when the request begins. The function always returns true if this process
        does not listen on `server_port`, and on systems without /proc.
        """
        open_sockets = self._open_sockets(server_port)
        if server_port not in self._listening_ports:
            return lambda: True
        return lambda: not open_sockets.isdisjoint(self._open_sockets(server_port))

    def _open_sockets(self, server_port: int) -> frozenset[str]:
        """Return the names of the open sockets that are connected to a server port."""
        with self._lock:
            # A socket is examined only once: with many connections, that takes milliseconds.
            self._ports = {
                name: self._ports[name] if name in self._ports else self._port(descriptor)
                for descriptor, name in _sockets(self._descriptor_folder)
            }
            return frozenset(name for name, port in self._ports.items() if port == server_port)

    def _port(self, descriptor: int) -> int:
        """Return the local port of a connected TCP socket; otherwise `_NO_PORT`."""
        try:
            # The duplicate has the same socket, and closing it does not close the connection.
            with _socket_of(os.dup(descriptor)) as duplicate:
                if duplicate.family not in (socket.AF_INET, socket.AF_INET6):
                    return _NO_PORT
                port: int = duplicate.getsockname()[1]
                if not duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    return port
                self._listening_ports.add(port)
        except OSError:  # another thread has closed the descriptor
            pass
        return _NO_PORT


def _socket_of(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError:  # another thread has closed the socket, and the descriptor is of another file
        os.close(descriptor)
        raise


def _sockets(folder: Path) -> list[tuple[int, str]]:
    """Return the descriptor and the name in /proc of each open socket of this process."""
    sockets = []
    try:
        descriptors = os.listdir(folder)  # noqa: PTH208  # faster than Path.iterdir
    except FileNotFoundError:
        return []
    for descriptor in descriptors:
        try:
            name = os.readlink(folder / descriptor)  # noqa: PTH115
        except OSError:  # another thread has closed the descriptor
            continue
        if name.startswith("socket:"):
            sockets.append((int(descriptor), name))
    return sockets
