"""HTTP connections that stay open, and send requests without waiting for each response."""

import socket
import ssl
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit
from weakref import finalize
from zlib import crc32

from httptools import HttpParserError, HttpResponseParser

from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.events.protocol import EventsFailed

# The requests of different channels use different connections: with Redis, nginx waits several
# milliseconds for each request of a connection.
_CONNECTION_COUNT = 8
_READ_BYTES = 65_536


class ChannelRequest(NamedTuple):
    """A complete HTTP request. The server gets the requests of one channel in their order."""

    channel: str
    content: bytes


class PublishConnections:
    """Connections to one HTTP server, for one thread.

    Each connection sends its requests at once, and then reads the responses (HTTP pipelining,
    RFC 9112, section 9.3.2).
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connections: dict[int, _Connection] = {}

    def send(self, requests: Sequence[ChannelRequest], deadline: Deadline) -> list[int | None]:
        """Send requests; return the HTTP statuses of the responses, None for each missing one.

        Raises EventsFailed if all responses are missing.
        """
        # The server can have closed the connections since the last call.
        can_be_closed = bool(self._connections)
        try:
            return self._send(requests, deadline)
        except EventsFailed:
            if not can_be_closed:
                raise
        return self._send(requests, deadline)

    def _send(self, requests: Sequence[ChannelRequest], deadline: Deadline) -> list[int | None]:
        positions_by_connection = defaultdict(list)
        for position, request in enumerate(requests):
            number = crc32(request.channel.encode()) % _CONNECTION_COUNT
            positions_by_connection[number].append(position)
        statuses: list[int | None] = [None] * len(requests)
        errors: list[Exception] = []
        for number, positions in positions_by_connection.items():
            content = b"".join(requests[position].content for position in positions)
            with self._closed_on_error(number, errors):
                self._connection(number, deadline).write(content, deadline)
        # A connection that failed during the sending is no longer in self._connections.
        for number in positions_by_connection.keys() & self._connections.keys():
            with self._closed_on_error(number, errors):
                for position in positions_by_connection[number]:
                    statuses[position] = self._connections[number].read_status(deadline)
        if errors and not any(statuses):
            raise EventsFailed(f"{type(errors[0]).__name__}: {errors[0]}") from errors[0]
        return statuses

    @contextmanager
    def _closed_on_error(self, number: int, errors: list[Exception]) -> Iterator[None]:
        """Append an error to `errors`, and close the connection: it has missing responses."""
        try:
            yield
        except (OSError, HttpParserError) as error:
            errors.append(error)
            if connection := self._connections.pop(number, None):
                connection.close()

    def _connection(self, number: int, deadline: Deadline) -> "_Connection":
        if number not in self._connections:
            self._connections[number] = _Connection(self._url, deadline)
        return self._connections[number]


class _Connection:
    """A connection, and the statuses of the responses that it has received."""

    def __init__(self, url: str, deadline: Deadline) -> None:
        parts = urlsplit(url)
        default_port = 443 if parts.scheme == "https" else 80
        address = (parts.hostname or "", parts.port or default_port)
        self._socket = socket.create_connection(address, timeout=_remaining_s(deadline))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._socket = context.wrap_socket(self._socket, server_hostname=parts.hostname)
        # Gateways are not closed explicitly.
        self.close = finalize(self, self._socket.close)
        self._parser = HttpResponseParser(self)
        self._statuses = deque[int]()

    def write(self, content: bytes, deadline: Deadline) -> None:
        self._socket.settimeout(_remaining_s(deadline))
        self._socket.sendall(content)

    def read_status(self, deadline: Deadline) -> int:
        """Return the status of the next response. Raises OSError and HttpParserError."""
        while not self._statuses:
            self._socket.settimeout(_remaining_s(deadline))
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the server has closed the connection")
            self._parser.feed_data(data)
        return self._statuses.popleft()

    def on_message_complete(self) -> None:
        """Called by the parser after each response."""
        self._statuses.append(self._parser.get_status_code())


def _remaining_s(deadline: Deadline) -> float:
    """Return the seconds until a deadline, which are the timeout of a socket.

    Raises TimeoutError at the deadline: a timeout of 0 would mean "non-blocking".
    """
    remaining_s = deadline.remaining_s
    if not remaining_s:
        raise TimeoutError("timed out")
    return remaining_s
