"""Calls to an event engine that fails."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from livebackend.gateways.events.http_engine import HttpEventEngine
from livebackend.gateways.events.protocol import (
    ChannelEvent,
    EngineStatus,
    EventsFailed,
    InvalidEvent,
    PublishedEvent,
    WrongSecret,
)
from tests.support.fake_server import FakeResponse, FakeServer, running_fake_server
from tests.support.servers import free_port

CHANNEL = "user.7"
EVENT = PublishedEvent("coins_changed", b"{}")
# The response of `nchan_stub_status`.
STATUS = b"""\
total published messages: 5
stored messages: 1
shared memory used: 16K
shared memory limit: 131072K
channels: 2
subscribers: 3
redis pending commands: 0
nchan version: 1.3.6
"""
CALLS: dict[str, Callable[[HttpEventEngine], Any]] = {
    "publish": lambda engine: engine.publish([ChannelEvent(CHANNEL, EVENT)]),
    "close_channel": lambda engine: engine.close_channel(CHANNEL),
    "subscribers": lambda engine: engine.subscribers(CHANNEL),
    "status": lambda engine: engine.status(),
}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running_fake_server(FakeServer(lambda request: FakeResponse("201 Created"))) as server:
        yield server


@pytest.fixture
def engine(server: FakeServer) -> HttpEventEngine:
    return HttpEventEngine(server.url, "secret")


def test_event_is_published_in_the_format_of_nchan(
    engine: HttpEventEngine, server: FakeServer
) -> None:
    engine.publish([ChannelEvent(CHANNEL, EVENT)])
    (request,) = server.received_requests
    assert (request.method, request.target, request.body) == ("POST", "/pub/user.7", b"{}")
    assert request.headers["X-EventSource-Event"] == "coins_changed"
    assert request.headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("status", ["400", "403", "413", "500", "503", "302"])
def test_error_of_the_engine_is_reported(
    status: str,
    call: Callable[[HttpEventEngine], Any],
    engine: HttpEventEngine,
    server: FakeServer,
) -> None:
    server.respond = lambda request: FakeResponse(f"{status} Error")
    with pytest.raises(EventsFailed, match=status):
        call(engine)


def test_events_after_an_unconfirmed_one_of_their_channel_are_unconfirmed_too(
    engine: HttpEventEngine, server: FakeServer
) -> None:
    server.respond = lambda request: FakeResponse(
        "507 Insufficient Storage" if request.body == b"refused" else "201 Created"
    )
    sent = [("user.1", b"a"), ("user.2", b"refused"), ("user.2", b"b"), ("user.3", b"c")]
    events = [ChannelEvent(name, PublishedEvent("coins_changed", body)) for name, body in sent]
    invalid_event = ChannelEvent("user.4", PublishedEvent("invalid type", b"{}"))
    assert engine.publish([*events, invalid_event]) == [*events[1:3], invalid_event]


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"subscribers": "x"}', b"null"])
def test_malformed_count_is_reported(
    body: bytes, engine: HttpEventEngine, server: FakeServer
) -> None:
    server.respond = lambda request: FakeResponse("200 OK", body)
    with pytest.raises(EventsFailed, match="malformed count"):
        engine.subscribers(CHANNEL)


def test_rejected_secret_is_reported(engine: HttpEventEngine, server: FakeServer) -> None:
    server.respond = lambda request: FakeResponse("403 Forbidden")
    with pytest.raises(WrongSecret):
        engine.subscribers(CHANNEL)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"channels: 1",
        STATUS.replace(b"16K", b"16"),
        STATUS.replace(b"16K", b"K"),
        STATUS.replace(b"subscribers: 3", b"subscribers: x"),
        STATUS.replace(b"channels", b"\xff"),
    ],
)
def test_malformed_status_is_reported(
    body: bytes, engine: HttpEventEngine, server: FakeServer
) -> None:
    server.respond = lambda request: FakeResponse("200 OK", body)
    with pytest.raises(EventsFailed, match="malformed status"):
        engine.status()


def test_status_of_nchan_is_read(engine: HttpEventEngine, server: FakeServer) -> None:
    server.respond = lambda request: FakeResponse("200 OK", STATUS)
    assert engine.status() == EngineStatus(3, 2, 1, 16_384, 134_217_728)


@pytest.mark.parametrize("channel", ["", "user", "user.", "user.x", "../stat", "user.1,room.2"])
@pytest.mark.parametrize("name", ["publish", "close_channel", "subscribers"])
def test_invalid_channel_is_not_requested(
    name: str, channel: str, engine: HttpEventEngine, server: FakeServer
) -> None:
    arguments = ([ChannelEvent(channel, EVENT)],) if name == "publish" else (channel,)
    with pytest.raises(InvalidEvent):
        getattr(engine, name)(*arguments)
    assert server.received_requests == []


@pytest.mark.processes
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_call_to_an_engine_that_does_not_respond_ends_within_2_s(
    call: Callable[[HttpEventEngine], Any], engine: HttpEventEngine, server: FakeServer
) -> None:
    server.failure_mode = "read timeout"
    started_at = time.monotonic()
    with pytest.raises(EventsFailed, match=r"timed out|timeout"):
        call(engine)
    assert time.monotonic() < started_at + 2.5


def test_engine_that_is_unavailable_is_called_each_time() -> None:
    engine = HttpEventEngine(f"http://127.0.0.1:{free_port()}", "secret")
    # No circuit breaker delays the first call that succeeds; the relay waits between its calls.
    for _ in range(5):
        with pytest.raises(EventsFailed, match="Connection refused"):
            engine.publish([ChannelEvent(CHANNEL, EVENT)])
