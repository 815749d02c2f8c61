"""A stand-in for Qiniu on loopback: it checks each signature by itself, and answers as told."""

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

Answer = Callable[["_Handler"], None]


def answer(status: int, body: Any = None, **headers: str) -> Answer:
    """Answers at once; a body that is no bytes goes out as JSON."""
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


def silence(handler: "_Handler") -> None:
    """Never answers, until the caller has gone or ten seconds are over."""
    handler.connection.settimeout(10)
    handler.connection.recv(1)


def trickle(handler: "_Handler") -> None:
    """A byte each tenth of a second, for ten seconds at most."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def cut_off(handler: "_Handler") -> None:
    """Breaks off in the middle of the body."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"message_id"')


@dataclass
class QiniuServer:
    """What was asked of it, and what it answers."""

    url: str
    # Answers the next calls; the last one stays.
    answers: list[Answer] = field(default_factory=list)
    # (method, path, body) of each call that was signed rightly.
    asked: list[tuple[str, str, Any]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    qiniu: QiniuServer

    def do_GET(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # Nothing is read of a connection again whose answer may be broken.
        self.close_connection = True
        if not hmac.compare_digest(self.headers.get("Authorization") or "", self._signed(body)):
            answer(401, {"error": "BadToken", "message": "bad token"})(self)
            return
        self.qiniu.asked.append((self.command, self.path, json.loads(body) if body else None))
        answers = self.qiniu.answers
        with suppress(OSError):  # the caller may have no patience
            (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def _signed(self, body: bytes) -> str:
        """Qiniu's own rule, written down once more: what is tested must not test itself."""
        text = f"{self.command} {self.path}\nHost: {self.headers['Host']}"
        content_type = self.headers.get("Content-Type")
        if content_type:
            text += f"\nContent-Type: {content_type}"
        signed = text.encode() + b"\n\n"
        if content_type and content_type != "application/octet-stream":
            signed += body
        digest = hmac.new(SECRET_KEY.encode(), signed, "sha1").digest()
        return f"Qiniu {ACCESS_KEY}:{base64.urlsafe_b64encode(digest).decode()}"


@contextmanager
def qiniu_server() -> Iterator[QiniuServer]:
    """A server that listens on a free port until the end."""

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
