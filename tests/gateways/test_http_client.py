"""HTTP client of the gateways: deadlines, limits and the circuit breaker."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest

from livebackend.gateways.circuit_breaker import Breaker, Deadline
from livebackend.gateways.http_client import Caller, CallFailed
from tests.support.api import at_once
from tests.support.fake_server import Asked, FakeServer, Reply, closed_port, running


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running(FakeServer(lambda request: Reply(body=request.target.encode()))) as server:
        yield server


def failure_of(call: Callable[[], object]) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        call()
    return caught.value


def test_call_returns_the_complete_response_of_any_status(server: FakeServer) -> None:
    caller = Caller(server.url)
    response = caller.call("GET", "/a?b=c")
    assert (response.status, response.content) == (200, b"/a?b=c")
    server.fault = "503"
    assert caller.call("POST", "/", body=b"x").status == 503
    server.fault = "302"
    assert caller.call("POST", "/").status == 302
    assert [request.body for request in server.asked] == [b"", b"x", b""]


def test_failure_reports_whether_its_outcome_is_unknown(server: FakeServer) -> None:
    refused = failure_of(lambda: Caller(f"http://127.0.0.1:{closed_port()}").call("GET", "/"))
    assert refused.word == "unreachable"
    server.fault = "cut off"
    cut_off = failure_of(lambda: Caller(server.url).call("GET", "/"))
    assert (cut_off.word, cut_off.outcome_unknown) == ("unreachable", True)
    server.fault = "read timeout"
    timed_out = failure_of(lambda: Caller(server.url).call("GET", "/", deadline=Deadline(0.3)))
    assert (timed_out.word, timed_out.outcome_unknown) == ("timeout", True)


def test_timed_out_calls_release_their_threads(server: FakeServer) -> None:
    caller = Caller(server.url)
    server.fault = "1 byte/s"
    for _ in range(2):
        failure_of(lambda: caller.call("GET", "/", deadline=Deadline(0.2)))
    server.fault = ""
    # All four threads are free, although the server still sends to the previous connections.
    time.sleep(0.3)
    responses = at_once(*[partial(caller.call, "GET", "/")] * 4)
    assert {response.status for response in responses} == {200}


def test_slow_tls_handshake_times_out_and_closes_the_connection() -> None:
    finished = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def send_slowly() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                # The header of a TLS record of 16 kB.
                for byte in b"\x16\x03\x03\x40\x00" + b"\x02" * 100:
                    connection.sendall(bytes([byte]))
                    if finished.wait(0.1):
                        return

        thread = threading.Thread(target=send_slowly)
        thread.start()
        start = time.monotonic()
        caller = Caller(f"https://127.0.0.1:{listener.getsockname()[1]}")
        assert failure_of(lambda: caller.call("GET", "/", deadline=Deadline(1))).word == "timeout"
        assert time.monotonic() - start < 1.5
        # The server thread ends, because the client has closed the connection.
        thread.join(timeout=5)
        assert not thread.is_alive()
        finished.set()


@pytest.mark.processes
def test_two_calls_can_share_a_deadline(server: FakeServer) -> None:
    server.fault = "500 after a second"
    caller, deadline = Caller(server.url), Deadline(1.5)
    assert caller.call("GET", "/", deadline=deadline).status == 500
    start = time.monotonic()
    assert failure_of(lambda: caller.call("GET", "/", deadline=deadline)).word == "timeout"
    assert time.monotonic() - start < 1


def test_response_over_the_size_limit_fails(server: FakeServer) -> None:
    caller = Caller(server.url, bytes_max=1000)
    server.answer = lambda _: Reply(body=b"x" * 1000)
    assert len(caller.call("GET", "/").content) == 1000
    server.answer = lambda _: Reply(body=b"x" * 1001)
    assert failure_of(lambda: caller.call("GET", "/")).word == "too large"


def test_16_concurrent_calls_succeed_with_at_most_four_in_progress(server: FakeServer) -> None:
    highest, in_progress, lock = [0], [0], threading.Lock()

    def respond_slowly(_: Asked) -> Reply:
        with lock:
            in_progress[0] += 1
            highest[0] = max(highest[0], in_progress[0])
        time.sleep(0.2)
        with lock:
            in_progress[0] -= 1
        return Reply()

    server.answer = respond_slowly
    responses = at_once(*[partial(Caller(server.url).call, "GET", "/")] * 16)
    assert {response.status for response in responses} == {200}
    assert highest == [4]


@pytest.mark.processes
def test_fifth_call_fails_immediately_while_four_calls_hang(server: FakeServer) -> None:
    caller = Caller(server.url)
    server.fault = "read timeout"
    failures: list[str] = []

    def call() -> None:
        failures.append(failure_of(lambda: caller.call("GET", "/", deadline=Deadline(3))).word)

    def call_later() -> float:
        time.sleep(1.5)
        start = time.monotonic()
        call()
        return time.monotonic() - start

    *_, waited_s = at_once(*[call] * 4, call_later)
    assert sorted(failures) == ["timeout"] * 4 + ["unreachable"]
    assert waited_s < 0.2


class TestBreaker:
    def test_three_consecutive_failures_open_the_breaker_and_a_response_closes_it(self) -> None:
        now = [0.0]
        breaker = Breaker(clock=lambda: now[0])
        for _ in range(2):
            breaker.failed()
        breaker.answered()
        for _ in range(3):
            assert breaker.admits()
            breaker.failed()
        assert not breaker.admits()
        now[0] = 9.9
        assert not breaker.admits()
        now[0] = 10
        # Only one call is let through, to probe the server.
        assert [breaker.admits() for _ in range(3)] == [True, False, False]
        breaker.failed()
        now[0] = 19.9
        assert not breaker.admits()
        now[0] = 20
        assert breaker.admits()
        breaker.answered()
        assert all(breaker.admits() for _ in range(3))
