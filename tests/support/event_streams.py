"""A client of event streams (Server-Sent Events), and clients that never read."""

import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.nginx import HOST

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class ReceivedEvent:
    """An event of a stream."""

    type: str
    id: str
    data: str

    @property
    def body(self) -> Any:
        return json.loads(self.data)


def connect(url: str, ca_file: str | None, *, receive_buffer_bytes: int = 0) -> socket.socket:
    """Connect to the host and port of a URL; verify the certificate of HOST."""
    parts = urlsplit(url)
    connection = socket.socket()
    if receive_buffer_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    connection.settimeout(30)
    connection.connect((parts.hostname or "", parts.port or 443))
    if parts.scheme == "https":
        tls = ssl.create_default_context(cafile=ca_file)
        connection = tls.wrap_socket(connection, server_hostname=HOST)
    return connection


def request_stream(
    connection: socket.socket, url: str, headers: Mapping[str, str] = _NO_HEADERS
) -> None:
    """Send the request for an event stream."""
    parts = urlsplit(url)
    lines = [f"GET {parts.path}?{parts.query} HTTP/1.1", f"Host: {HOST}"]
    lines.append("Accept: text/event-stream")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())


class StreamClient:
    """Reads an event stream in a thread; `status` is that of the response."""

    def __init__(
        self,
        url: str,
        ca_file: str | None = None,
        last_event_id: str = "",
        *,
        last_seq: int = 0,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        self._last_seq = last_seq
        self.events: queue.Queue[ReceivedEvent] = queue.Queue()
        # The times at which comments or empty events were received.
        self.ping_times: list[float] = []
        self.ended = threading.Event()
        self._connection = connect(url, ca_file)
        last_id = {"Last-Event-ID": last_event_id} if last_event_id else {}
        request_stream(self._connection, url, {**headers, **last_id})
        self._response = HTTPResponse(self._connection)
        self._response.begin()
        self.status = self._response.status
        self.headers = self._response.headers
        self._connection.settimeout(60)
        self._thread = threading.Thread(target=self._read)
        if self.status == 200:
            self._thread.start()
        else:
            self.body = self._response.read()
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def next(self, timeout_s: float = 10) -> ReceivedEvent:
        """Wait for the next event, and return it."""
        return self.events.get(timeout=timeout_s)

    def next_new(self, timeout_s: float = 10) -> ReceivedEvent:
        """Wait for the next event that the client does not have, by its sequence number."""
        while True:
            event = self.next(timeout_s)
            if event.type != "reset" and event.body["seq"] > self._last_seq:
                self._last_seq = event.body["seq"]
                return event

    def take(self, count: int) -> list[ReceivedEvent]:
        """Wait for the next events that the client does not have, and return them."""
        return [self.next_new() for _ in range(count)]

    def close(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        if self._thread.ident:
            self._thread.join(timeout=10)
        self._response.close()
        self._connection.close()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        with suppress(OSError, HTTPException, ValueError, AttributeError):
            while line := self._response.readline():
                name, separator, value = line.decode().rstrip("\r\n").partition(":")
                if separator:
                    fields[name] = value.removeprefix(" ")
                    if not name:
                        self.ping_times.append(time.monotonic())
                elif not name:
                    self._finish_event(fields)
                    fields = {}
        self.ended.set()

    def _finish_event(self, fields: dict[str, str]) -> None:
        if fields.get("data"):
            self.events.put(
                ReceivedEvent(fields.get("event", ""), fields.get("id", ""), fields["data"])
            )
