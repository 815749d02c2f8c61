"""Calls over HTTP: they end in time, and a dead server is left alone."""

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
    with running(FakeServer(lambda asked: Reply(body=asked.target.encode()))) as server:
        yield server


def failure(call: Callable[[], object]) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        call()
    return caught.value


def test_the_answer_comes_whole_whatever_its_status(server: FakeServer) -> None:
    caller = Caller(server.url)
    answer = caller.call("GET", "/a?b=c")
    assert (answer.status, answer.content) == (200, b"/a?b=c")
    server.fault = "503"
    assert caller.call("POST", "/", body=b"x").status == 503
    server.fault = "302"
    assert caller.call("POST", "/").status == 302
    assert [asked.body for asked in server.asked] == [b"", b"x", b""]


def test_whether_it_may_have_been_done_is_told(server: FakeServer) -> None:
    refused = failure(lambda: Caller(f"http://127.0.0.1:{closed_port()}").call("GET", "/"))
    assert refused.word == "unreachable"
    server.fault = "cut off"
    cut_off = failure(lambda: Caller(server.url).call("GET", "/"))
    assert (cut_off.word, cut_off.outcome_unknown) == ("unreachable", True)
    server.fault = "read timeout"
    silent = failure(lambda: Caller(server.url).call("GET", "/", deadline=Deadline(0.3)))
    assert (silent.word, silent.outcome_unknown) == ("timeout", True)


def test_a_call_that_is_given_up_leaves_no_thread_waiting(server: FakeServer) -> None:
    caller = Caller(server.url)
    server.fault = "1 byte/s"
    for _ in range(2):
        failure(lambda: caller.call("GET", "/", deadline=Deadline(0.2)))
    server.fault = ""
    # All four turns are free again, although the server still talks to the last ones.
    time.sleep(0.3)
    answers = at_once(*[partial(caller.call, "GET", "/")] * 4)
    assert {answer.status for answer in answers} == {200}


def test_a_handshake_that_comes_byte_by_byte_is_cut_off_too() -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                # The head of a TLS record that announces 16 kB.
                for byte in b"\x16\x03\x03\x40\x00" + b"\x02" * 100:
                    connection.sendall(bytes([byte]))
                    if over.wait(0.1):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        start = time.monotonic()
        caller = Caller(f"https://127.0.0.1:{listener.getsockname()[1]}")
        assert failure(lambda: caller.call("GET", "/", deadline=Deadline(1))).word == "timeout"
        assert time.monotonic() - start < 1.5
        # The other side is told: nobody listens any more.
        thread.join(timeout=5)
        assert not thread.is_alive()
        over.set()


@pytest.mark.processes
def test_calls_share_a_deadline(server: FakeServer) -> None:
    server.fault = "500 after a second"
    caller, deadline = Caller(server.url), Deadline(1.5)
    assert caller.call("GET", "/", deadline=deadline).status == 500
    start = time.monotonic()
    assert failure(lambda: caller.call("GET", "/", deadline=deadline)).word == "timeout"
    assert time.monotonic() - start < 1


def test_an_answer_is_bounded(server: FakeServer) -> None:
    caller = Caller(server.url, bytes_max=1000)
    server.answer = lambda asked: Reply(body=b"x" * 1000)
    assert len(caller.call("GET", "/").content) == 1000
    server.answer = lambda asked: Reply(body=b"x" * 1001)
    assert failure(lambda: caller.call("GET", "/")).word == "too large"


def test_more_than_four_wait_while_those_move_on(server: FakeServer) -> None:
    most, running_now, lock = [0], [0], threading.Lock()

    def slowly(asked: Asked) -> Reply:
        with lock:
            running_now[0] += 1
            most[0] = max(most[0], running_now[0])
        time.sleep(0.2)
        with lock:
            running_now[0] -= 1
        return Reply()

    server.answer = slowly
    answers = at_once(*[partial(Caller(server.url).call, "GET", "/")] * 16)
    assert {answer.status for answer in answers} == {200}
    assert most == [4]


@pytest.mark.processes
def test_nobody_waits_for_a_turn_where_nothing_moves(server: FakeServer) -> None:
    caller = Caller(server.url)
    server.fault = "read timeout"
    words: list[str] = []

    def call() -> None:
        words.append(failure(lambda: caller.call("GET", "/", deadline=Deadline(3))).word)

    def later() -> float:
        time.sleep(1.5)
        start = time.monotonic()
        call()
        return time.monotonic() - start

    *_, waited_s = at_once(*[call] * 4, later)
    assert sorted(words) == ["timeout"] * 4 + ["unreachable"]
    assert waited_s < 0.2


class TestBreaker:
    def test_three_failures_in_a_row_open_it_and_an_answer_closes_it(self) -> None:
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
        # One is let through, to see.
        assert [breaker.admits() for _ in range(3)] == [True, False, False]
        breaker.failed()
        now[0] = 19.9
        assert not breaker.admits()
        now[0] = 20
        assert breaker.admits()
        breaker.answered()
        assert all(breaker.admits() for _ in range(3))
