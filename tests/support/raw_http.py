"""Requests as bytes on a socket, for what no client library would ever send."""

import json
from dataclasses import dataclass
from typing import Any, Self

from tests.support.servers import Server

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Call:
    """A POST of a form, or what is left of one."""

    path: str = "/friend"
    body: str | bytes = ""
    method: str = "POST"
    content_type: str = FORM
    headers: tuple[str, ...] = ()
    # Instead of a true Content-Length; "" for none at all.
    length: str | None = None

    def on_the_wire(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else self.body.encode()
        length = str(len(body)) if self.length is None else self.length
        head = [
            f"{self.method} {self.path} HTTP/1.1",
            "Host: x",
            "Connection: close",
            *([f"Content-Type: {self.content_type}"] if self.content_type else []),
            *([f"Content-Length: {length}"] if length else []),
            *self.headers,
        ]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + body


@dataclass(frozen=True)
class Heard:
    """A reply from the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    # What came on the same connection after it.
    rest: bytes

    @classmethod
    def to(cls, server: Server, request: bytes) -> Self:
        """Says `request` on a connection of its own, and listens until the server hangs up."""
        heard = b""
        with server.connect() as connection:
            connection.sendall(request)
            while more := connection.recv(65_536):
                heard += more
        return cls.first_of(heard)

    @classmethod
    def first_of(cls, heard: bytes) -> Self:
        start, _, rest = heard.partition(b"\r\n\r\n")
        first, *lines = start.decode("latin-1").split("\r\n")
        pairs = [line.partition(": ") for line in lines]
        headers = {name.lower(): value for name, _, value in pairs}
        size = int(headers.get("content-length", 0))
        return cls(int(first.split()[1]), headers, rest[:size], rest[size:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)
