"""Tests of the client, the classification and the limits of `make chaos`."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.chaos.classification import Call, Outcome, Result, classify
from tests.chaos.client import Endpoint, Exchange, HttpClient
from tests.chaos.observation import Observation
from tests.chaos.readiness import ReadinessLog
from tests.chaos.rows import Limits
from tests.support.tcp_proxy import TcpProxy

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
                connection.recv(65_536)
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
    observation = Observation(results, [], 100, 110, log)
    assert observation.recovery_s == pytest.approx(1.5)
    # /readyz was 200 for 0.5 s while calls failed, and 503 for 3 s while they succeeded.
    assert observation.agreement_s == pytest.approx(3)


def test_readiness_contradicts_calls_that_fail_during_the_fault() -> None:
    results = [result(Outcome.REFUSED, time_s) for time_s in range(101, 110)]
    observation = Observation(results, [], 100, 110, readiness((102, 200), (108, 200)))
    assert observation.agreement_s == pytest.approx(7)


def test_readiness_does_not_contradict_calls_that_succeed_again() -> None:
    results = [result(Outcome.REFUSED, 101), result(Outcome.ANSWERED, 104)]
    observation = Observation(results, [], 100, 110, readiness((104, 200), (108, 200)))
    assert observation.agreement_s == 0


def test_limits_name_each_figure_that_exceeds_them() -> None:
    results = [result(Outcome.WRONG, 1), result(Outcome.LOST, 1, 6), result(Outcome.ANSWERED, 1)]
    observation = Observation(results, [], 0, 2)
    exceeded = Limits(longest_s=5).exceeded(observation)
    assert [text.partition(":")[0] for text in exceeded] == [
        "wrong responses",
        "lost requests",
        "seconds of the longest call",
    ]


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
        accepted.setblocking(False)
        with pytest.raises(BlockingIOError):
            accepted.recv(1)
        proxy.close()
        for open_socket in (client, new_client, accepted, newly_accepted):
            open_socket.close()
