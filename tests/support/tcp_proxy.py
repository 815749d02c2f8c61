"""A TCP proxy that can stop forwarding without closing its connections.

A silent connection stays open: a client that waits for a response gets none, and no error. The
kernel acknowledges what the client sends, as for a frozen server.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class TcpProxy:
    """Forwards connections to a port of 127.0.0.1, or to a Unix socket.

    A change of `target` applies to new connections.
    """

    target: int | Path
    port: int = field(init=False)
    # The number of connections that were opened so far.
    connection_count: int = 0
    _forwards: threading.Event = field(init=False)
    _sockets: list[socket.socket] = field(default_factory=list)
    # The sockets to the target whose connections are not silent for ever.
    _targets: list[socket.socket] = field(default_factory=list)
    _is_closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._forwards = threading.Event()
        self._forwards.set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Forward nothing during the `with` block; then forward what was sent meanwhile."""
        self._forwards.clear()
        try:
            yield
        finally:
            self._forwards.set()

    def replace_host(self) -> None:
        """Make all connections silent for ever; forward those that are opened from now on.

        The target sees the end of the silent connections, as if their host had crashed: the new
        host has no sessions of the old one, and no locks of them.
        """
        self._forwards.clear()
        for target in self._targets:
            with suppress(OSError):  # the connection has ended
                target.shutdown(socket.SHUT_RDWR)
        self._targets.clear()
        self._forwards = threading.Event()
        self._forwards.set()

    def break_connections(self) -> None:
        """Close all connections; new ones are accepted."""
        with self._lock:
            open_sockets, self._sockets = self._sockets, []
            self._targets.clear()
        for open_socket in open_sockets:
            with suppress(OSError):  # the connection has ended
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            for open_socket in [self._listener, *self._sockets]:
                with suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
                open_socket.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connection_count += 1
            forwards = self._forwards
            threading.Thread(target=self._connect, args=(client, forwards), daemon=True).start()

    def _connect(self, client: socket.socket, forwards: threading.Event) -> None:
        with suppress(OSError):  # the target does not listen, or `close` was called
            self._close_later(client)
            forwards.wait()
            target = self._connected_target()
            self._close_later(target)
            self._targets.append(target)
            for source, destination in ((client, target), (target, client)):
                if source.family == socket.AF_INET:
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(
                    target=_forward, args=(source, destination, forwards), daemon=True
                ).start()
            return
        client.close()

    def _close_later(self, open_socket: socket.socket) -> None:
        """Let `close` close a socket. Raises OSError, and closes the socket, after `close`."""
        with self._lock:
            if not self._is_closed:
                self._sockets.append(open_socket)
                return
        open_socket.close()
        raise OSError("the proxy is closed")

    def _connected_target(self) -> socket.socket:
        if isinstance(self.target, int):
            return socket.create_connection(("127.0.0.1", self.target))
        target = socket.socket(socket.AF_UNIX)
        try:
            target.connect(str(self.target))
        except OSError:
            target.close()
            raise
        return target


def _forward(source: socket.socket, destination: socket.socket, forwards: threading.Event) -> None:
    """Copy bytes until the source is closed, and wait while the connection is silent."""
    with suppress(OSError):
        while received := source.recv(65_536):
            forwards.wait()
            destination.sendall(received)
    forwards.wait()  # a silent connection does not pass the end on either
    with suppress(OSError):
        destination.shutdown(socket.SHUT_WR)
