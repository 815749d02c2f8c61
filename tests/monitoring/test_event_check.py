"""The check of live events by `livebackend doctor`.

tests/gateways/events/test_contract.py runs it with each event engine.
"""

import queue
import socket
from collections.abc import Iterator

import pytest

from livebackend.gateways.events.http_engine import HttpEventEngine
from livebackend.monitoring.event_check import EventCheck
from livebackend.monitoring.health_checks import CheckFailed
from tests.support.fake_server import (
    FakeResponse,
    FakeServer,
    ReceivedRequest,
    running_fake_server,
)
from tests.support.servers import free_port

TICKET = "a-ticket"


class FakeEngine(FakeServer):
    """An engine that accepts events, and sends one to its client if `delivers` is true."""

    def __init__(self) -> None:
        super().__init__(self.publishing_side)
        self.published = queue.Queue[bytes]()
        self.delivers = True
        self.secret_is_valid = True
        self.publish_status = "202 Accepted"
        # The response to a client; None for an event stream.
        self.stream_response: FakeResponse | None = None

    def send_response(self, connection: socket.socket, request: ReceivedRequest) -> None:
        if request.path != "/events" or self.stream_response or self.failure_mode:
            super().send_response(connection, request)
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: ping\n\n")
        if self.delivers:
            connection.sendall(b"data: " + self.published.get(timeout=10) + b"\n\n")

    def publishing_side(self, request: ReceivedRequest) -> FakeResponse:
        if request.path == "/events":
            return self.stream_response or FakeResponse(content_type="text/event-stream")
        if not self.secret_is_valid:
            return FakeResponse("403 Forbidden")
        if request.method == "GET":
            return FakeResponse(body=b'{"subscribers": 0}')
        self.published.put(request.body)
        return FakeResponse(self.publish_status)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    with running_fake_server(engine):
        yield engine


@pytest.fixture
def check(engine: FakeEngine) -> EventCheck:
    return EventCheck(
        HttpEventEngine(engine.url, "secret"),
        is_child_process=False,
        stream_url=lambda: f"{engine.url}/events?ticket={TICKET}",
    )


def failure(check: EventCheck) -> CheckFailed:
    with pytest.raises(CheckFailed) as raised:
        check.run()
    assert raised.value.remedy
    assert TICKET not in str(raised.value)
    return raised.value


def test_check_passes_if_an_event_arrives_in_the_stream(
    check: EventCheck, engine: FakeEngine
) -> None:
    assert check.run() == "an event has reached a client of the event stream"
    assert [request.path for request in engine.received_requests] == [
        "/pub/user.0",
        "/events",
        "/pub/user.0",
    ]


def test_engine_that_refuses_events_is_reported(check: EventCheck, engine: FakeEngine) -> None:
    engine.publish_status = "503 Service Unavailable"
    assert "does not accept events: the engine responded with HTTP status 503" in str(
        failure(check)
    )


def test_engine_that_is_unavailable_is_reported(check: EventCheck) -> None:
    unavailable_engine = HttpEventEngine(f"http://127.0.0.1:{free_port()}", "secret")
    error = failure(check._replace(engine=unavailable_engine))
    assert "does not accept events: unreachable" in str(error)
    assert "events.publish_url" in error.remedy


def test_engine_that_livebackend_starts_can_be_unavailable(check: EventCheck) -> None:
    unavailable_engine = HttpEventEngine(f"http://127.0.0.1:{free_port()}", "secret")
    message = check._replace(engine=unavailable_engine, is_child_process=True).run()
    assert message.startswith("not checked: ")


def test_wrong_secret_is_reported(check: EventCheck, engine: FakeEngine) -> None:
    engine.secret_is_valid = False
    for each_check in (check, check._replace(is_child_process=True)):
        error = failure(each_check)
        assert "rejects the secret" in str(error)
        assert "events.publish_secret" in error.remedy


def test_stream_url_to_which_nothing_listens_is_reported(check: EventCheck) -> None:
    url = f"http://127.0.0.1:{free_port()}/events"
    error = failure(check._replace(stream_url=lambda: f"{url}?ticket={TICKET}"))
    assert f"{url} cannot be reached from this machine" in str(error)
    assert "events.public_url" in error.remedy


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (FakeResponse("404 Not Found"), "HTTP status 404"),
        (FakeResponse("301 Moved", headers={"Location": "/"}), "HTTP status 301"),
        (
            FakeResponse("403 Forbidden", headers={"X-Error": "ticket; reason=invalid_ticket"}),
            "HTTP status 403 ticket; reason=invalid_ticket",
        ),
        (FakeResponse(headers={"X-Accel-Redirect": "/_events/user.0"}), "leads to no event engine"),
    ],
)
def test_stream_url_of_another_server_is_reported(
    response: FakeResponse, message: str, check: EventCheck, engine: FakeEngine
) -> None:
    engine.stream_response = response
    assert message in str(failure(check))


def test_event_that_does_not_arrive_is_reported(check: EventCheck, engine: FakeEngine) -> None:
    engine.delivers = False
    error = failure(check)
    assert "did not arrive" in str(error)
    assert "another engine" in error.remedy


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["read timeout", "1 byte/s in the body"])
def test_stream_that_stalls_is_reported(mode: str, check: EventCheck, engine: FakeEngine) -> None:
    with running_fake_server(FakeEngine()) as slow_server:
        slow_server.failure_mode = mode
        failure(check._replace(stream_url=lambda: f"{slow_server.url}/events?ticket={TICKET}"))
