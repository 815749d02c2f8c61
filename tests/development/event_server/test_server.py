"""The process of the event server: start, restart, end, and its connections."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from livebackend.development.event_server.options import EventServerOptions
from livebackend.development.local_events import LocalEvents
from livebackend.gateways.events.protocol import ChannelEvent, EventsFailed, PublishedEvent
from tests.support.event_streams import StreamClient, connect, request_stream
from tests.support.fake_server import FakeResponse, FakeServer, running_fake_server
from tests.support.servers import free_port, listening_pids
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

EVENT = PublishedEvent("test", b'{"seq":1}')
START = """
import sys, time
from pathlib import Path
from typing import Any
from livebackend.development.event_server.options import EventServerOptions
from livebackend.development.local_events import LocalEvents

options = EventServerOptions(sys.argv[1], "secret", "http://127.0.0.1:1", 120, 5, 200)
LocalEvents(options, lock_path=Path(sys.argv[2])).start_server()
time.sleep(60)
"""


@pytest.fixture
def application() -> Iterator[FakeServer]:
    """An application that accepts every connection."""
    headers = {"X-Accel-Redirect": "/_events/user.7"}
    with running_fake_server(FakeServer(lambda _: FakeResponse(headers=headers))) as server:
        yield server


@pytest.fixture
def new_engine(tmp_path: Path, application: FakeServer) -> Iterator[Callable[..., LocalEvents]]:
    with ExitStack() as stack:

        def create(**options: Any) -> LocalEvents:
            engine = LocalEvents(
                EventServerOptions(
                    address=f"127.0.0.1:{free_port()}",
                    secret="secret",
                    app_url=application.url,
                    replay_s=120,
                    max_streams_account=5,
                    max_streams_address=200,
                )._replace(**options),
                lock_path=tmp_path / "data" / "lock",
            )
            stack.callback(engine.close_server)
            return engine

        yield create


def is_ready(engine: LocalEvents) -> bool:
    try:
        engine.subscribers("user.1")
    except EventsFailed:
        return False
    return True


def start(engine: LocalEvents) -> LocalEvents:
    engine.start_server()
    wait_until(lambda: is_ready(engine), 20, "the event server")
    return engine


def test_connection_ends_after_its_maximum_time(new_engine: Callable[..., LocalEvents]) -> None:
    engine = start(new_engine(max_connection_s=1.0))
    started_at = time.monotonic()
    with StreamClient(engine.stream_url) as client:
        engine.publish([ChannelEvent("user.7", EVENT)])
        assert client.next().data == '{"seq":1}'
        assert client.ended.wait(5)
    assert time.monotonic() > started_at + 0.9
    assert engine.subscribers("user.7") == 0


def test_connection_without_events_receives_pings(new_engine: Callable[..., LocalEvents]) -> None:
    engine = start(new_engine(ping_interval_s=0.2))
    with StreamClient(engine.stream_url) as client:
        wait_until(lambda: len(client.ping_times) > 3, 5, "pings")


def test_client_of_another_origin_can_read_the_stream(
    new_engine: Callable[..., LocalEvents],
) -> None:
    engine = start(new_engine())
    with StreamClient(engine.stream_url) as client:
        assert client.headers["Access-Control-Allow-Origin"] == "*"
        assert client.headers["Cache-Control"] == "no-store"


def test_subscription_ends_when_its_client_disconnects(
    new_engine: Callable[..., LocalEvents],
) -> None:
    engine = start(new_engine())
    with StreamClient(engine.stream_url):
        wait_until(lambda: engine.subscribers("user.7"), 5, "the subscription")
    wait_until(lambda: not engine.subscribers("user.7"), 5, "the end of the subscription")


def test_client_that_reads_nothing_is_disconnected_after_the_send_timeout(
    new_engine: Callable[..., LocalEvents],
) -> None:
    # The queue is not full, so only the kernel detects that the client does not read.
    engine = start(new_engine(send_timeout_s=2.0, max_queued_events=100_000))
    with connect(engine.stream_url, None, receive_buffer_bytes=4096) as connection:
        request_stream(connection, engine.stream_url)
        wait_until(lambda: engine.subscribers("user.7"), 5, "the subscription")
        for _ in range(200):
            engine.publish([ChannelEvent("user.7", PublishedEvent("test", b"x" * 2000))])
        wait_until(lambda: not engine.subscribers("user.7"), 8, "the end of the subscription")


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "503 Service Unavailable"])
def test_response_of_the_application_is_passed_on(
    status: str, new_engine: Callable[..., LocalEvents], application: FakeServer
) -> None:
    engine = start(new_engine())
    application.respond = lambda _: FakeResponse(status, b"{}", headers={"Retry-After": "7"})
    client = StreamClient(f"{engine.stream_url}?ticket=abc", last_event_id="5:1")
    assert (client.status, client.body) == (int(status[:3]), b"{}")
    assert client.headers["Retry-After"] == "7"
    request = application.received_requests[-1]
    assert request.target == "/events?ticket=abc"
    assert request.headers["Last-Event-ID"] == "5:1"


def test_headers_of_a_proxy_are_trusted_from_this_machine_only(
    new_engine: Callable[..., LocalEvents], application: FakeServer
) -> None:
    port = free_port()
    engine = start(new_engine(address=f"0.0.0.0:{port}", max_streams_address=1))
    headers = "X-Forwarded-For: 1.2.3.{}\r\nX-Forwarded-Proto: https\r\n"
    for host, is_trusted in (("127.0.0.1", True), (own_address(), False)):
        statuses = []
        with ExitStack() as stack:
            for number in range(2):
                connection = stack.enter_context(socket.create_connection((host, port), timeout=10))
                request = f"GET /events HTTP/1.1\r\nHost: x\r\n{headers.format(number)}\r\n"
                connection.sendall(request.encode())
                statuses.append(int(connection.recv(100).split()[1]))
        # The clients have different addresses only if the header is trusted.
        assert statuses == [200, 200 if is_trusted else 429]
        received = application.received_requests[-1].headers
        assert ("X-Forwarded-For" in received) is is_trusted
        assert ("X-Forwarded-Proto" in received) is is_trusted
        wait_until(lambda: engine.subscribers("user.7") == 0, 5, "the end of the streams")


def test_client_gets_503_while_the_application_is_unavailable(
    new_engine: Callable[..., LocalEvents],
) -> None:
    engine = start(new_engine(app_url=f"http://127.0.0.1:{free_port()}"))
    client = StreamClient(engine.stream_url)
    assert (client.status, client.headers["Retry-After"]) == (503, "10")


def test_killed_server_is_started_again(new_engine: Callable[..., LocalEvents]) -> None:
    engine = start(new_engine())
    (pid,) = listening_pids(engine.stream_url.split("/")[2])
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_ready(engine), 5, "the end of the server")
    wait_until(lambda: is_ready(engine), 20, "another server")


def test_engines_with_the_same_lock_file_share_a_server(
    new_engine: Callable[..., LocalEvents],
) -> None:
    first = start(new_engine())
    address = first.stream_url.split("/")[2]
    second = start(new_engine(address=address))
    with StreamClient(first.stream_url) as client:
        second.publish([ChannelEvent("user.7", EVENT)])
        assert client.next().data == '{"seq":1}'
    first.close_server()
    wait_until(lambda: is_ready(second), 20, "the server of the second engine")
    second.close_server()
    assert not listening_pids(address)


def test_server_ends_with_its_parent(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    parent = subprocess.Popen(
        [sys.executable, "-c", START, address, str(tmp_path / "lock")],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        wait_until(lambda: listening_pids(address), 20, "the event server")
    finally:
        parent.kill()
        parent.wait(10)
    wait_until(lambda: not listening_pids(address), 5, "the end of the event server")


def test_address_in_use_is_logged(
    new_engine: Callable[..., LocalEvents], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as other_server:
        other_server.bind(("127.0.0.1", 0))
        other_server.listen()
        engine = new_engine(address=f"127.0.0.1:{other_server.getsockname()[1]}")
        engine.start_server()
        wait_until(lambda: "event server: ended with code 1" in caplog.text, 20, "the log record")


def test_server_has_no_secret_in_its_arguments_and_environment(
    new_engine: Callable[..., LocalEvents], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEBACKEND_SECRETS", "secret")
    engine = start(new_engine())
    (pid,) = listening_pids(engine.stream_url.split("/")[2])
    for name in ("cmdline", "environ"):
        assert b"secret" not in Path(f"/proc/{pid}/{name}").read_bytes()


@pytest.mark.parametrize(
    "request_line", ["POST /events", "GET /", "PUT /pub/user.7", "GET /pub/../events"]
)
def test_other_requests_are_rejected(
    request_line: str, new_engine: Callable[..., LocalEvents]
) -> None:
    engine = start(new_engine())
    host, _, port = engine.stream_url.split("/")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(100).split()[1] in (b"404", b"405", b"403")


def own_address() -> str:
    """Return an address of this machine that is not a loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])
