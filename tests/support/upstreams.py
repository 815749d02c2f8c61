"""Upstream servers for nginx, which simulate failures of the application."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behavior = Callable[["Handler"], None]
OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n"
    b'{"result":"0000","message":null}'
)


class Handler(BaseHTTPRequestHandler):
    """Records each complete request, then responds with the upstream's `behavior`."""

    server: "_Server"

    def do_POST(self) -> None:
        body_length = int(self.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.upstream.received.append(
            ReceivedRequest(self.path, headers, self.rfile.read(body_length))
        )
        self.server.upstream.behavior(self)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    upstream: "Upstream"


@dataclass(frozen=True)
class ReceivedRequest:
    """A request that an upstream has read completely."""

    path: str
    headers: dict[str, str]
    body: bytes


def close(handler: Handler) -> None:
    """Send no response; the server then closes the connection."""


def stay_silent(handler: Handler) -> None:
    """Send nothing until nginx closes the connection, for at most 10 s."""
    handler.connection.settimeout(10)
    with suppress(ConnectionResetError):
        handler.connection.recv(1)


def respond(response: bytes) -> Behavior:
    """Return a behavior that sends `response` and closes the connection."""

    def send(handler: Handler) -> None:
        handler.wfile.write(response)

    return send


class Upstream:
    """A server on a fixed port that can start and stop listening."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.behavior = respond(OK)
        self.received: list[ReceivedRequest] = []
        self._server: _Server | None = None

    def listen(self) -> None:
        if self._server is None:
            self._server = _Server(("127.0.0.1", self.port), Handler)
            self._server.upstream = self
            threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop_listening(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
