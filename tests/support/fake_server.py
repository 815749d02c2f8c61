"""Fake HTTP server of a provider on loopback, with selectable failures."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

HUNDRED_MB = 100 * 1024 * 1024
# A slow response ends after 8 s at the latest, so that its thread ends soon after the test.
_MAX_RESPONSE_S = 8


@dataclass(frozen=True)
class ReceivedRequest:
    """A request that the fake server received."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class FakeResponse:
    status: str = "200 OK"
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


class FakeServer:
    """Returns the response of `respond`, or fails as `failure_mode` specifies."""

    def __init__(self, respond: Callable[[ReceivedRequest], FakeResponse]) -> None:
        self.respond = respond
        self.failure_mode = ""
        self.received_requests: list[ReceivedRequest] = []
        self._closing = threading.Event()
        fake_server = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                request = ReceivedRequest(
                    self.command, self.path, dict(self.headers.items()), self.rfile.read(size)
                )
                fake_server.received_requests.append(request)
                with suppress(OSError):  # the client can close the connection early
                    fake_server.send_response(self.connection, request)
                self.close_connection = True

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                pass  # the client can close the connection early

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send_response(self, connection: socket.socket, request: ReceivedRequest) -> None:
        send_by_mode: dict[str, Callable[[], object]] = {
            "read timeout": lambda: self._closing.wait(_MAX_RESPONSE_S),
            "1 byte/s": lambda: self._send_slowly(connection, self._successful_response(request)),
            "1 byte/s in the body": lambda: self._send_body_slowly(
                connection, self._successful_response(request)
            ),
            "truncated": lambda: connection.sendall(self._successful_response(request)[:-10]),
            "cut off": lambda: None,
            "100 MB": lambda: self._send_100_mb(connection),
            "500 after a second": lambda: (
                self._closing.wait(1) or self._send_error(connection, "500")
            ),
            "": lambda: connection.sendall(self._successful_response(request)),
        }
        send = send_by_mode.get(self.failure_mode)
        if send:
            send()
        else:
            self._send_error(connection, self.failure_mode)

    def _successful_response(self, request: ReceivedRequest) -> bytes:
        return encode_response(self.respond(request))

    def _send_error(self, connection: socket.socket, failure_mode: str) -> bool:
        connection.sendall(encode_response(ERROR_RESPONSES[failure_mode]))
        return True

    def _send_body_slowly(self, connection: socket.socket, response: bytes) -> None:
        headers, separator, body = response.partition(b"\r\n\r\n")
        connection.sendall(headers + separator)
        self._send_slowly(connection, body)

    def _send_slowly(self, connection: socket.socket, response: bytes) -> None:
        deadline = time.monotonic() + _MAX_RESPONSE_S
        for byte in response:
            connection.sendall(bytes([byte]))
            if self._closing.wait(1) or time.monotonic() > deadline:
                return

    def _send_100_mb(self, connection: socket.socket) -> None:
        connection.sendall(
            f"HTTP/1.1 200 OK\r\nContent-Length: {HUNDRED_MB}\r\n"
            "Content-Type: application/json\r\n\r\n".encode()
        )
        block = b" " * (1 << 20)
        for _ in range(HUNDRED_MB // len(block)):
            connection.sendall(block)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)


# Error responses that any server can send.
ERROR_RESPONSES = {
    "401": FakeResponse("401 Unauthorized", b'{"error":"bad token"}'),
    "429": FakeResponse(
        "429 Too Many Requests", b'{"error":"too many requests"}', headers={"Retry-After": "9"}
    ),
    "500": FakeResponse("500 Internal Server Error", b'{"error":"oops"}'),
    "503": FakeResponse("503 Service Unavailable", b"<html>busy</html>", "text/html"),
    "302": FakeResponse("302 Found", b"", headers={"Location": "http://127.0.0.1:1/elsewhere"}),
    "HTML": FakeResponse(
        "200 OK", b"<!DOCTYPE html><html>Welcome to the hotel</html>", "text/html"
    ),
    "{}": FakeResponse("200 OK", b"{}"),
    "a list": FakeResponse("200 OK", b"[]"),
    "null": FakeResponse("200 OK", b"null"),
    "deep": FakeResponse("200 OK", b"[" * 100_000),
}
# Error responses and network failures. "refused": no server listens on the port.
FAILURE_MODES = [
    *ERROR_RESPONSES,
    *("refused", "truncated", "cut off", "100 MB"),
    # Slow tests: a request with one of these failures ends only at the client's timeout.
    *(
        pytest.param(mode, marks=pytest.mark.processes)
        for mode in ("read timeout", "1 byte/s", "1 byte/s in the body")
    ),
]


def encode_response(response: FakeResponse) -> bytes:
    # `http.server` does not know Qiniu's status code 612, so this function encodes the response.
    lines = [
        f"HTTP/1.1 {response.status}",
        f"Content-Length: {len(response.body)}",
        f"Content-Type: {response.content_type}",
        "X-Reqid: fake-1",
        *(f"{name}: {value}" for name, value in response.headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + response.body


@contextmanager
def running_fake_server(server: FakeServer) -> Iterator[FakeServer]:
    server.start()
    try:
        yield server
    finally:
        server.close()
