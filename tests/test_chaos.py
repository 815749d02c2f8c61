"""Tests of the client, the classification and the limits of `make chaos`."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from tests.chaos.__main__ import ROWS
from tests.chaos.classification import Call, Outcome, Result, classify
from tests.chaos.client import Attempt, Endpoint, Exchange, HttpClient
from tests.chaos.load import Load
from tests.chaos.observation import Observation
from tests.chaos.readiness import ReadinessLog
from tests.chaos.regular_calls import RegularCalls
from tests.chaos.rows import Limits
from tests.chaos.users import Account, User
from tests.support.application import DEVELOPMENT_INI
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

CALL = Call(
    "gift",
    "/golden",
    {},
    "0013",
    lambda envelope: "" if envelope["message"] == "m" else "other",
    refusal_reason="ledger_busy",
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def outcome(status: int, body: str, **headers: str) -> Outcome:
    header_names = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(CALL, Exchange(status, header_names, body.encode(), 0, 0)).outcome


def test_known_response_is_answered() -> None:
    assert outcome(200, '{"result":"0000","message":"m"}') is Outcome.ANSWERED


@pytest.mark.parametrize(
    "body", ['{"result":"0000","message":"x"}', "[]", "<html>", '{"result":"0000"}']
)
def test_other_response_is_wrong(body: str) -> None:
    assert outcome(200, body) is Outcome.WRONG


def test_response_with_another_structure_is_wrong() -> None:
    call = Call("list", "/list", {}, "0006", lambda envelope: str(envelope["message"]["friends"]))
    exchange = Exchange(200, {}, b'{"result":"0000","message":null}', 0, 0)
    assert classify(call, exchange).outcome is Outcome.WRONG


def test_503_is_refused_with_the_code_of_the_path_and_retry_after() -> None:
    envelope = '{"result":"0013","message":null}'
    assert outcome(503, envelope, retry_after="1") is Outcome.REFUSED
    assert outcome(503, envelope) is Outcome.WRONG
    assert outcome(503, envelope.replace("0013", "0006"), retry_after="1") is Outcome.WRONG
    assert outcome(503, "<html>", retry_after="1") is Outcome.WRONG
    assert outcome(500, envelope, retry_after="1") is Outcome.WRONG


def test_gift_that_the_ledger_did_not_accept_is_refused() -> None:
    envelope = '{"result":"0013","message":null}'
    assert outcome(200, envelope, x_error="request; reason=ledger_busy") is Outcome.REFUSED
    assert outcome(200, envelope, x_error="value; reason=insufficient") is Outcome.WRONG


def test_request_without_a_response_is_lost() -> None:
    assert outcome(0, "") is Outcome.LOST


@contextmanager
def listener(responses: Sequence[bytes]) -> Iterator[int]:
    """Serve one response for each connection, then close it; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for response in responses:
                connection, _ = server.accept()
                # Closing a socket with unread bytes would reset the connection.
                received = b""
                while not received.endswith(b"a=b") and (data := connection.recv(65_536)):
                    received += data
                connection.sendall(response)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def post(client: HttpClient) -> Exchange:
    return client.post("/list", b"a=b", "application/x-www-form-urlencoded")


def test_client_reports_a_request_that_was_sent_and_got_no_response() -> None:
    with listener([b""]) as port:
        exchange = post(HttpClient(Endpoint(port), "127.0.0.1"))
    assert (exchange.status, exchange.stale_count) == (0, 0)
    assert "RemoteDisconnected" in exchange.error


class FailingConnection(http.client.HTTPConnection):
    """A connection that fails while the client sends the request."""

    def request(self, *_: Any, **__: Any) -> None:
        raise BrokenPipeError


def test_client_sends_a_request_again_that_it_could_not_send_completely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listener([b"", OK]) as port:
        new_connection = partial(http.client.HTTPConnection, "127.0.0.1", port, timeout=10)
        connections = iter([FailingConnection("127.0.0.1", port, timeout=10), new_connection()])
        client = HttpClient(Endpoint(port), "127.0.0.1")
        monkeypatch.setattr(client, "new_connection", lambda: next(connections))
        exchange = post(client)
    assert (exchange.status, exchange.stale_count) == (200, 1)


class ReusedConnection:
    """A connection that was idle before, and fails when the client waits for the response."""

    sock: socket.socket | None = None

    def __init__(self, *, open_for_s: float, error: Exception) -> None:
        self._open_for_s = open_for_s
        self._error = error

    def request(self, *_: Any) -> None:
        pass

    def getresponse(self) -> NoReturn:
        time.sleep(self._open_for_s)
        raise self._error

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("open_for_s", "error", "is_sent_again"),
    [
        (0, http.client.RemoteDisconnected("closed"), True),
        (0, ConnectionResetError(), True),
        (0.1, http.client.RemoteDisconnected("closed"), False),
        (0.1, ConnectionResetError(), False),
        (0, TimeoutError(), False),
        (0, http.client.BadStatusLine("x"), False),
    ],
)
def test_complete_request_is_lost_unless_an_idle_connection_is_closed_at_once(
    open_for_s: float,
    error: Exception,
    is_sent_again: bool,  # noqa: FBT001
) -> None:
    connection: Any = ReusedConnection(open_for_s=open_for_s, error=error)
    for is_reused in (True, False):
        attempt = Attempt(connection, is_reused=is_reused)
        with pytest.raises(type(error)) as raised:
            attempt.send("POST", "/list", b"", {})
        assert attempt.cannot_be_executed(raised.value) is (is_sent_again and is_reused)


def test_connections_that_are_always_closed_too_early_lose_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listener([b""] * 20) as port:
        client = HttpClient(Endpoint(port), "127.0.0.1")
        connection = partial(FailingConnection, "127.0.0.1", port, timeout=10)
        monkeypatch.setattr(client, "new_connection", connection)
        exchange = post(client)
        for _ in range(20 - exchange.stale_count):
            socket.create_connection(("127.0.0.1", port)).close()
    assert (exchange.status, exchange.stale_count) == (0, 10)


def test_client_tries_a_refused_connection_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    exchanges: list[Exchange] = []
    client = HttpClient(Endpoint(port), "127.0.0.1")
    thread = threading.Thread(target=lambda: exchanges.append(post(client)))
    thread.start()
    with socket.create_server(("127.0.0.1", port)) as server:
        connection, _ = server.accept()
        connection.recv(65_536)
        connection.sendall(OK)
        thread.join(10)
        connection.close()
    assert [exchange.status for exchange in exchanges] == [200]


def result(kind: Outcome, sent_at: float, duration_s: float = 0.1) -> Result:
    return Result("list", kind, sent_at, duration_s, 0)


def readiness(*statuses: tuple[float, int]) -> ReadinessLog:
    return ReadinessLog(0, list(statuses))


def test_recovery_and_agreement_are_measured_from_the_end_of_the_fault() -> None:
    results = [result(Outcome.REFUSED, time_s) for time_s in (101, 101.6, 102.2, 111.5)]
    log = readiness((100, 200), (101.5, 200), (103, 503), (112, 503), (114.5, 503), (115, 200))
    observation = Observation(results, [], 100, 110, log, results)
    assert observation.recovery_s == pytest.approx(1.5)
    # /readyz was 200 for 0.5 s while calls failed, and 503 for 3 s while they succeeded.
    assert observation.agreement_s == pytest.approx(3)


def test_readiness_contradicts_calls_that_fail_during_the_fault() -> None:
    results = [result(Outcome.REFUSED, time_s) for time_s in range(101, 110)]
    log = readiness((102, 200), (108, 200))
    observation = Observation(results, [], 100, 110, log, results)
    assert observation.agreement_s == pytest.approx(7)


def test_readiness_does_not_contradict_calls_that_succeed_again() -> None:
    # The first call fails late, when calls that are sent then succeed.
    results = [result(Outcome.REFUSED, 101, 4), result(Outcome.ANSWERED, 104)]
    log = readiness((104, 200), (108, 200))
    observation = Observation(results, [], 100, 110, log, results)
    assert observation.agreement_s == 0


def test_regular_calls_do_not_wait_for_each_other() -> None:
    sent = threading.Semaphore(0)
    may_end = threading.Event()

    def hang() -> Result:
        sent.release()
        assert may_end.wait(30)
        return result(Outcome.REFUSED, 1)

    regular_calls = RegularCalls(hang)
    regular_calls.start()
    for _ in range(3):
        assert sent.acquire(timeout=30)
    may_end.set()
    regular_calls.stop()
    assert len(regular_calls.results) >= 3


def test_limits_name_each_figure_that_exceeds_them() -> None:
    results = [result(Outcome.WRONG, 1), result(Outcome.LOST, 1, 6), result(Outcome.ANSWERED, 1)]
    observation = Observation(results, [], 0, 2)
    exceeded = Limits(min_answered=1, longest_s=5).exceeded(observation)
    assert [text.partition(":")[0] for text in exceeded] == [
        "wrong responses",
        "lost requests",
        "seconds of the longest call",
    ]


def test_short_form_names_the_tests_that_cover_the_rows_it_leaves_out() -> None:
    covering_tests = {row.covered_by for row in ROWS if row.covered_by}
    assert covering_tests
    for name in covering_tests:
        assert (DEVELOPMENT_INI.parent / name).exists()
    assert sum(not row.covered_by for row in ROWS) >= len(ROWS) // 2


def test_row_without_requests_exceeds_its_limits() -> None:
    limits = Limits(min_answered=1, min_refused=1, agreement_s=2)
    assert limits.exceeded(Observation([], [], 0, 2, readiness())) == [
        "answered requests: 0, minimum 1",
        "refused requests: 0, minimum 1",
        "/readyz was not requested during the fault",
    ]


def test_readiness_contradicts_calls_for_the_longest_time_in_which_it_is_200() -> None:
    results = [result(Outcome.REFUSED, time_s) for time_s in range(101, 110)]
    statuses = [(101.5, 200), (103, 503), (103.5, 200), (104, 200), (105, 503), (109, 503)]
    log = readiness(*statuses, (112, 200))
    observation = Observation(results, [], 100, 110, log, results)
    assert observation.agreement_s == pytest.approx(1)


def test_client_that_fails_is_an_error_of_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Exchange:
        raise KeyError("x")

    monkeypatch.setattr(HttpClient, "post", fail)
    account = Account(1, 1, "1", "a")
    users: Any = SimpleNamespace(
        users=[User(account, "token", (account,), ())], hosts=[account], tokens=None
    )
    load = Load(users, Endpoint(1), client_count=1, pause_s=0)
    load.start()
    wait_until(lambda: load.errors, 60, "the error of the client")
    load.stop()
    assert load.errors == ["client 0 failed: KeyError('x')"]


def test_silent_proxy_forwards_later_what_was_sent_meanwhile() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = TcpProxy(server.getsockname()[1])
        client = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        accepted, _ = server.accept()
        accepted.settimeout(10)
        with proxy.silent():
            client.sendall(b"a")
            accepted.setblocking(False)
            with pytest.raises(BlockingIOError):
                accepted.recv(1)
            accepted.settimeout(10)
        assert accepted.recv(1) == b"a"
        proxy.replace_host()
        client.sendall(b"b")
        new_client = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        newly_accepted, _ = server.accept()
        newly_accepted.settimeout(10)
        new_client.sendall(b"c")
        assert newly_accepted.recv(1) == b"c"
        assert accepted.recv(1) == b""
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        proxy.close()
        for open_socket in (client, new_client, accepted, newly_accepted):
            open_socket.close()
