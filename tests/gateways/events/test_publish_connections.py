"""Connections that send many requests before they read the responses."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.events.protocol import EventsFailed
from livebackend.gateways.events.publish_connections import ChannelRequest, PublishConnections

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

# Returns the response to a request; None: the server closes the connection instead.
Respond = Callable[[bytes], bytes | None]


class Server:
    """A server that responds to each line that it receives, and records the lines."""

    def __init__(self, respond: Respond) -> None:
        self.lines: list[bytes] = []
        self.connection_count = 0
        self._respond = respond
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connection_count += 1
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            for line in lines:
                self.lines.append(line)
                response = self._respond(line)
                if response is None:
                    return
                connection.sendall(response)

    def close(self) -> None:
        self._listener.close()


@contextmanager
def running(respond: Respond) -> Iterator[tuple[Server, PublishConnections]]:
    server = Server(respond)
    try:
        yield server, PublishConnections(server.url)
    finally:
        server.close()


def requests(*numbers: int, channel: str = "user.7") -> list[ChannelRequest]:
    return [ChannelRequest(channel, b"%d\n" % number) for number in numbers]


def test_requests_of_a_channel_arrive_in_order_on_one_connection() -> None:
    with running(lambda line: ACCEPTED) as (server, connections):
        for first in (0, 50):
            numbers = range(first, first + 50)
            assert connections.send(requests(*numbers), Deadline(2)) == [202] * 50
    assert server.lines == [b"%d\n" % number for number in range(100)]
    assert server.connection_count == 1


def test_responses_of_slow_channels_are_awaited_at_the_same_time() -> None:
    all_received = threading.Barrier(8, timeout=5)

    def respond(line: bytes) -> bytes:
        all_received.wait()
        return ACCEPTED

    with running(respond) as (_, connections):
        # The checksums of these names select eight different connections.
        sent = [ChannelRequest(f"user.{number}", b"x\n") for number in range(8)]
        assert connections.send(sent, Deadline(5)) == [202] * 8


def test_status_of_each_response_is_returned() -> None:
    with running(lambda line: REFUSED if line == b"3\n" else ACCEPTED) as (server, connections):
        statuses = connections.send(requests(1, 2, 3, 4), Deadline(2))
        assert statuses == [202, 202, 403, 202]
        # A refused request is not sent again.
        assert connections.send(requests(3), Deadline(2)) == [403]
    assert server.lines.count(b"3\n") == 2


def test_missing_response_is_none() -> None:
    with running(lambda line: None if line == b"3\n" else ACCEPTED) as (_, connections):
        assert connections.send(requests(1, 2, 3, 4), Deadline(2)) == [202, 202, None, None]
        with pytest.raises(EventsFailed, match="closed the connection"):
            connections.send(requests(3, 4), Deadline(2))
        assert connections.send(requests(5), Deadline(2)) == [202]


def test_malformed_response_is_an_error() -> None:
    with (
        running(lambda line: b"nonsense\r\n\r\n") as (_, connections),
        pytest.raises(EventsFailed, match="HttpParser"),
    ):
        connections.send(requests(1), Deadline(2))


def test_nothing_is_sent_after_the_deadline() -> None:
    with running(lambda line: ACCEPTED) as (server, connections):
        connections.send(requests(1), Deadline(2))
        with pytest.raises(EventsFailed, match="timed out"):
            connections.send(requests(2), Deadline(0))
    assert server.lines == [b"1\n"]


def test_connection_that_the_server_has_closed_is_replaced() -> None:
    responses = iter([ACCEPTED, None, ACCEPTED])
    with running(lambda line: next(responses)) as (server, connections):
        assert connections.send(requests(1), Deadline(2)) == [202]
        assert connections.send(requests(2), Deadline(2)) == [202]
    assert server.connection_count == 2


def test_no_request_needs_no_server() -> None:
    assert PublishConnections("http://127.0.0.1:9").send([], Deadline(2)) == []
