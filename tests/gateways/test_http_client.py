"""HTTP client of the gateways: deadlines, limits and the circuit breaker."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest

from livebackend.gateways.circuit_breaker import CircuitBreaker, Deadline
from livebackend.gateways.http_client import ProviderCallFailed, ProviderClient
from tests.support.api import run_concurrently
from tests.support.fake_server import (
    FakeResponse,
    FakeServer,
    ReceivedRequest,
    running_fake_server,
)
from tests.support.servers import free_port


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running_fake_server(
        FakeServer(lambda request: FakeResponse(body=request.target.encode()))
    ) as server:
        yield server


def failure_of(call: Callable[[], object]) -> ProviderCallFailed:
    with pytest.raises(ProviderCallFailed) as caught:
        call()
    return caught.value


def test_call_returns_the_complete_response_of_any_status(server: FakeServer) -> None:
    client = ProviderClient(server.url)
    response = client.call("GET", "/a?b=c")
    assert (response.status, response.content) == (200, b"/a?b=c")
    server.failure_mode = "503"
    assert client.call("POST", "/", body=b"x").status == 503
    server.failure_mode = "302"
    assert client.call("POST", "/").status == 302
    assert [request.body for request in server.received_requests] == [b"", b"x", b""]


def test_failed_call_reports_whether_its_outcome_is_unknown(server: FakeServer) -> None:
    refused_call = failure_of(
        lambda: ProviderClient(f"http://127.0.0.1:{free_port()}").call("GET", "/")
    )
    assert refused_call.kind == "unreachable"
    server.failure_mode = "cut off"
    cut_off_call = failure_of(lambda: ProviderClient(server.url).call("GET", "/"))
    assert (cut_off_call.kind, cut_off_call.outcome_unknown) == ("unreachable", True)
    server.failure_mode = "read timeout"
    timed_out_call = failure_of(
        lambda: ProviderClient(server.url).call("GET", "/", deadline=Deadline(0.3))
    )
    assert (timed_out_call.kind, timed_out_call.outcome_unknown) == ("timeout", True)


def test_timed_out_calls_release_their_threads(server: FakeServer) -> None:
    client = ProviderClient(server.url)
    server.failure_mode = "1 byte/s"
    for _ in range(2):
        failure_of(lambda: client.call("GET", "/", deadline=Deadline(0.2)))
    server.failure_mode = ""
    # All four threads of the client are free, although the server still sends data on the
    # connections of the two calls that timed out.
    time.sleep(0.3)
    responses = run_concurrently(*[partial(client.call, "GET", "/")] * 4)
    assert {response.status for response in responses} == {200}


def test_slow_tls_handshake_times_out_and_closes_the_connection() -> None:
    stop_sending = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def send_slowly() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                # Starts to send a TLS record of 16 kB, one byte every 0.1 s.
                for byte in b"\x16\x03\x03\x40\x00" + b"\x02" * 100:
                    connection.sendall(bytes([byte]))
                    if stop_sending.wait(0.1):
                        return

        thread = threading.Thread(target=send_slowly)
        thread.start()
        start = time.monotonic()
        client = ProviderClient(f"https://127.0.0.1:{listener.getsockname()[1]}")
        assert failure_of(lambda: client.call("GET", "/", deadline=Deadline(1))).kind == "timeout"
        assert time.monotonic() - start < 1.5
        # The server thread ends, because the client has closed the connection.
        thread.join(timeout=5)
        assert not thread.is_alive()
        stop_sending.set()


@pytest.mark.processes
def test_two_calls_can_share_a_deadline(server: FakeServer) -> None:
    server.failure_mode = "500 after a second"
    client, deadline = ProviderClient(server.url), Deadline(1.5)
    assert client.call("GET", "/", deadline=deadline).status == 500
    start = time.monotonic()
    assert failure_of(lambda: client.call("GET", "/", deadline=deadline)).kind == "timeout"
    assert time.monotonic() - start < 1


def test_response_over_the_size_limit_fails(server: FakeServer) -> None:
    client = ProviderClient(server.url, max_response_bytes=1000)
    server.respond = lambda _: FakeResponse(body=b"x" * 1000)
    assert len(client.call("GET", "/").content) == 1000
    server.respond = lambda _: FakeResponse(body=b"x" * 1001)
    assert failure_of(lambda: client.call("GET", "/")).kind == "too large"


def test_16_concurrent_calls_succeed_with_at_most_four_in_progress(server: FakeServer) -> None:
    max_in_progress, in_progress, lock = [0], [0], threading.Lock()

    def respond_slowly(_: ReceivedRequest) -> FakeResponse:
        with lock:
            in_progress[0] += 1
            max_in_progress[0] = max(max_in_progress[0], in_progress[0])
        time.sleep(0.2)
        with lock:
            in_progress[0] -= 1
        return FakeResponse()

    server.respond = respond_slowly
    responses = run_concurrently(*[partial(ProviderClient(server.url).call, "GET", "/")] * 16)
    assert {response.status for response in responses} == {200}
    assert max_in_progress == [4]


@pytest.mark.processes
def test_fifth_call_fails_immediately_while_four_calls_hang(server: FakeServer) -> None:
    client = ProviderClient(server.url)
    server.failure_mode = "read timeout"
    failure_kinds: list[str] = []

    def record_failure_kind() -> None:
        failure_kinds.append(failure_of(lambda: client.call("GET", "/", deadline=Deadline(3))).kind)

    def duration_of_later_call() -> float:
        time.sleep(1.5)
        start = time.monotonic()
        record_failure_kind()
        return time.monotonic() - start

    *_, duration_s = run_concurrently(*[record_failure_kind] * 4, duration_of_later_call)
    assert sorted(failure_kinds) == ["timeout"] * 4 + ["unreachable"]
    assert duration_s < 0.2


class TestCircuitBreaker:
    def test_three_consecutive_failures_open_the_breaker_and_a_response_closes_it(self) -> None:
        now = [0.0]
        breaker = CircuitBreaker(clock=lambda: now[0])
        for _ in range(2):
            breaker.record_failure()
        breaker.record_success()
        for _ in range(3):
            assert breaker.allows_call()
            breaker.record_failure()
        assert not breaker.allows_call()
        now[0] = 9.9
        assert not breaker.allows_call()
        now[0] = 10
        # After 10 s, the breaker allows one call, which tests whether the server responds.
        assert [breaker.allows_call() for _ in range(3)] == [True, False, False]
        breaker.record_failure()
        now[0] = 19.9
        assert not breaker.allows_call()
        now[0] = 20
        assert breaker.allows_call()
        breaker.record_success()
        assert all(breaker.allows_call() for _ in range(3))


def test_call_whose_thread_cannot_start_is_not_sent_later(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    client = ProviderClient(server.url)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        for _ in range(2):
            failure = failure_of(lambda: client.call("POST", "/failed"))
            assert (failure.kind, failure.outcome_unknown) == ("unreachable", False)
    # The permits of the failed calls are free again, and the threads that start now send none.
    targets = [f"/{number}" for number in range(8)]
    run_concurrently(*[partial(client.call, "GET", target) for target in targets])
    assert sorted(request.target for request in server.received_requests) == targets
