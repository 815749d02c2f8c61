"""HTTP requests as raw bytes, including requests that no client library can send."""

import json
from dataclasses import dataclass
from typing import Any, Self

from tests.support.servers import Server

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class RawRequest:
    """A valid or malformed request, by default a POST of a form."""

    path: str = "/friend"
    body: str | bytes = ""
    method: str = "POST"
    content_type: str = FORM
    headers: tuple[str, ...] = ()
    # Value of Content-Length, by default the length of the body; "" omits the header.
    length: str | None = None

    def encode(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else self.body.encode()
        length = str(len(body)) if self.length is None else self.length
        header_lines = [
            f"{self.method} {self.path} HTTP/1.1",
            "Host: x",
            "Connection: close",
            *([f"Content-Type: {self.content_type}"] if self.content_type else []),
            *([f"Content-Length: {length}"] if length else []),
            *self.headers,
        ]
        return "\r\n".join([*header_lines, "", ""]).encode("latin-1") + body


@dataclass(frozen=True)
class RawResponse:
    """A response read from a socket."""

    status: int
    headers: dict[str, str]
    body: bytes
    # Bytes that followed the response on the same connection.
    rest: bytes

    @classmethod
    def exchange(cls, server: Server, request: bytes) -> Self:
        """Send `request` on a new connection; read until the server closes it."""
        received = b""
        with server.connect() as connection:
            connection.sendall(request)
            while chunk := connection.recv(65_536):
                received += chunk
        return cls.parse(received)

    @classmethod
    def parse(cls, received: bytes) -> Self:
        head_bytes, _, rest = received.partition(b"\r\n\r\n")
        status_line, *lines = head_bytes.decode("latin-1").split("\r\n")
        header_fields = [line.partition(": ") for line in lines]
        headers = {name.lower(): value for name, _, value in header_fields}
        body_size = int(headers.get("content-length", 0))
        return cls(int(status_line.split()[1]), headers, rest[:body_size], rest[body_size:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)
