"""A TCP proxy in front of PostgreSQL, which can become silent or lead to another server.

A silent connection stays open and forwards nothing, as if PostgreSQL were frozen: the kernel
acknowledges what the client sends.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from livebackend.development.embedded_postgres import DATABASE, USER


class PostgresProxy:
    """Forwards TCP connections on 127.0.0.1 to the Unix socket of a PostgreSQL server.

    A change of `target` applies to new connections.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._connection_count = 0
        self._sockets: list[socket.socket] = []
        self._forwards_new_connections = True
        self._silent_connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the application's database."""
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def connection_count(self) -> int:
        """The number of connections that were opened so far."""
        return self._connection_count

    def silence_open_connections(self) -> None:
        """Stop forwarding on all open connections; new connections work."""
        self._silent_connections.update(self._sockets)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Stop forwarding on open connections, and on those that are opened in the `with` block.

        These connections stay silent after the block.
        """
        self._forwards_new_connections = False
        self.silence_open_connections()
        try:
            yield
        finally:
            self._forwards_new_connections = True

    def close(self) -> None:
        for closed_socket in (self._listener, *self._sockets):
            with suppress(OSError):
                closed_socket.shutdown(socket.SHUT_RDWR)
            closed_socket.close()

    def _accept(self) -> None:
        with suppress(OSError):  # `close` ends accept()
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self._connection_count += 1
                if self._forwards_new_connections:
                    self._connect(client)
                else:
                    self._silent_connections.add(client)

    def _connect(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self.target))
        except OSError:
            client.close()
            server.close()
            return
        self._sockets.append(server)
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source in self._silent_connections:
                    return
                target.sendall(data)
            if source not in self._silent_connections:
                target.shutdown(socket.SHUT_RDWR)
