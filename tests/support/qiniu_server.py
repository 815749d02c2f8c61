"""Fake Qiniu server on loopback: verifies signatures and sends prepared responses."""

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ACCESS_KEY, SECRET_KEY = "test-ak", "test-sk"

ResponseWriter = Callable[["_Handler"], None]


def response_writer(status: int, body: Any = None, **headers: str) -> ResponseWriter:
    """Return a function that writes a response; a body other than bytes becomes JSON."""
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )

    def write(handler: "_Handler") -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("X-Reqid", "reqid-1")
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return write


def no_response(handler: "_Handler") -> None:
    """Send nothing until the client closes the connection or 10 s pass."""
    handler.connection.settimeout(10)
    handler.connection.recv(1)


def slow_response(handler: "_Handler") -> None:
    """Send one byte every 0.1 s, for at most 10 s."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def truncated_response(handler: "_Handler") -> None:
    """Close the connection in the middle of the body."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"message_id"')


@dataclass
class QiniuServer:
    """State of the fake Qiniu server: prepared responses and received requests."""

    url: str
    # The server sends these responses in order, and the last one to all further requests.
    responses: list[ResponseWriter] = field(default_factory=list)
    # (method, path, body) of each request with a valid signature.
    received: list[tuple[str, str, Any]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    qiniu: QiniuServer

    def do_GET(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # A prepared response can be incomplete, so the client must not reuse the connection.
        self.close_connection = True
        if not hmac.compare_digest(
            self.headers.get("Authorization") or "", self._expected_authorization(body)
        ):
            response_writer(401, {"error": "BadToken", "message": "bad token"})(self)
            return
        self.qiniu.received.append((self.command, self.path, json.loads(body) if body else None))
        writers = self.qiniu.responses
        with suppress(OSError):  # the client can close the connection early
            (writers.pop(0) if len(writers) > 1 else writers[0])(self)

    def _expected_authorization(self, body: bytes) -> str:
        """Compute the expected Authorization header without code of the application."""
        text = f"{self.command} {self.path}\nHost: {self.headers['Host']}"
        content_type = self.headers.get("Content-Type")
        if content_type:
            text += f"\nContent-Type: {content_type}"
        signed_data = text.encode() + b"\n\n"
        if content_type and content_type != "application/octet-stream":
            signed_data += body
        digest = hmac.new(SECRET_KEY.encode(), signed_data, "sha1").digest()
        return f"Qiniu {ACCESS_KEY}:{base64.urlsafe_b64encode(digest).decode()}"


@contextmanager
def qiniu_server() -> Iterator[QiniuServer]:
    """Run a fake Qiniu server on a free port."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.qiniu = QiniuServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Handler.qiniu
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
