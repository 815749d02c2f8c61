"""Tests of the Python client with a real server and with prepared responses."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

import livebackend_client
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend_client import (
    ApiError,
    Client,
    ConnectionFailed,
    InvalidResponse,
    OperationRefused,
    ServerUnavailable,
)
from tests.support.api import PASSWORD
from tests.support.application import DEVELOPMENT_INI
from tests.support.markdown import DOCS, Page
from tests.support.servers import running_server
from tools.generate_client import declared_operations, generate_modules

ANN_PHONE, BEN_PHONE = "13800000001", "13800000002"
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 40


CLIENT_PACKAGE = Path(livebackend_client.__file__).parent


def run_python(script: str) -> str:
    """Run a script with the client package on PYTHONPATH; return its output."""
    completed_process = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(CLIENT_PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return completed_process.stdout


def test_generated_modules_match_the_output_of_make_client() -> None:
    for name, text in generate_modules(declared_operations()).items():
        assert (CLIENT_PACKAGE / name).read_text("utf-8") == text, "run `make client`"


@pytest.mark.processes
def test_client_imports_only_requests_and_the_standard_library() -> None:
    script = "import requests, sys; before = set(sys.modules); import livebackend_client; "
    script += "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    assert set(run_python(script).split()) <= {"livebackend_client"} | sys.stdlib_module_names


@pytest.fixture
def address(new_database: Callable[[str], str], worker_id: str, tmp_path: Path) -> Iterator[str]:
    url = new_database(f"client_{worker_id}")
    database = Database(url)
    migrate(database)
    database.close()
    with running_server(DEVELOPMENT_INI, tmp_path, {"database.url": url}) as server:
        yield server.address


def register_client(address: str, phone: str, **profile: Any) -> Client:
    client = Client(address)
    ticket = client.send_code(token=phone)
    client.verify_code(code_v=ticket, code=ticket)
    client.register(userId=phone, password=PASSWORD, **profile)
    client.token = client.log_in(userId=phone, password=PASSWORD, expire_in=3600)
    return client


@pytest.mark.processes
def test_client_registers_befriends_goes_live_and_sends_gifts(address: str, tmp_path: Path) -> None:
    picture = tmp_path / "我.png"
    picture.write_bytes(PNG)
    picture_path = Client(address).upload(img=picture)
    assert Path(picture_path).read_bytes() == PNG
    assert Client(address).upload(img=BytesIO(PNG))
    ann = register_client(address, ANN_PHONE, nickname="Ann", gender="0", headImage=picture_path)
    ben = register_client(address, BEN_PHONE)
    profile, friend_flag = ben.search(userId=ANN_PHONE)
    assert (profile["nickname"], friend_flag) == ("Ann", "0")
    ben.add(userId=ANN_PHONE)
    (message,) = ann.messagelist()
    ann.deal_message(
        userId=message["userId"],
        verifyId=message["verifyId"],
        objectId=message["objectId"],
        behaviour="accept",
    )
    stream = ann.live(title="hello")
    assert stream["publishKey"]
    (friend,) = ben.friendlist()["friends"]
    assert (friend["title"], friend["liveStatus"]) == ("hello", "on")
    ben.refill(money=50)
    for _ in range(2):
        ben.send_gift(value=30, object=ANN_PHONE, description="rose", requestId="once")
    with pytest.raises(OperationRefused) as raised:
        ben.send_gift(value=30, object=ANN_PHONE, description="rose")
    assert raised.value.code == "0013"
    assert (raised.value.parameter, raised.value.reason) == ("value", "insufficient_coins")
    assert raised.value.explain(chinese=True) == "value：金币不足"
    assert str(raised.value).startswith("0013 database update failed: value")
    ben.log_out()
    with pytest.raises(OperationRefused, match="0012"):
        ben.friendlist()


@pytest.mark.parametrize(
    ("header", "explanation"),
    [
        ("nickname; reason=too_long; max=32", "nickname has more than 32 characters"),
        ("nickname; reason=too_long", "nickname: too_long"),
        ("nickname; reason=later_reason; max=1", "nickname: later_reason"),
        (None, "unknown error"),
    ],
)
def test_explanation_of_an_error_of_another_server_version(
    header: str | None, explanation: str
) -> None:
    assert OperationRefused("0006", error=header, status=200).explain() == explanation


@pytest.mark.processes
def test_client_example_in_the_documentation_prints_the_documented_error(address: str) -> None:
    example_script = next(
        script for script in Page(DOCS / "clients.md").fences("python") if "ann.send_gift" in script
    )
    register_client(address, ANN_PHONE).add(
        userId=register_client(address, BEN_PHONE).search(userId=BEN_PHONE)[0]["userId"]
    )
    script = example_script.replace("http://127.0.0.1:6543", address)
    assert run_python(script) == "0013 database update failed: value exceeds the balance\n"


class ScriptedServer(HTTPServer):
    """Server that sends prepared responses and records the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        # For None, the server closes the connection without a response.
        self.responses: list[tuple[int, bytes, dict[str, str]] | None] = []
        self.received: list[dict[str, list[str]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(parse_qs(body.decode()))
        response = self.server.responses.pop(0)
        if response is None:
            return
        status, content, headers = response
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


PreparedResponse = tuple[int, bytes, dict[str, str]]
OK_RESPONSE: PreparedResponse = (200, b'{"result":"0000","message":null}', {})
UNAVAILABLE_RESPONSE: PreparedResponse = (
    503,
    b'{"result":"0013","message":"update failed"}',
    {"Retry-After": "0"},
)


def new_client(scripted_server: ScriptedServer) -> Client:
    return Client(f"http://127.0.0.1:{scripted_server.server_port}", token="t", timeout_s=5)


def test_gift_is_retried_with_the_same_request_id(scripted_server: ScriptedServer) -> None:
    scripted_server.responses = [UNAVAILABLE_RESPONSE, UNAVAILABLE_RESPONSE, OK_RESPONSE]
    new_client(scripted_server).send_gift(value=1, object=ANN_PHONE, description="rose")
    request_ids = [request["requestId"] for request in scripted_server.received]
    assert len(request_ids) == 3
    assert request_ids[0] == request_ids[1] == request_ids[2]


def test_client_raises_after_three_unavailable_responses(scripted_server: ScriptedServer) -> None:
    scripted_server.responses = [
        UNAVAILABLE_RESPONSE,
        UNAVAILABLE_RESPONSE,
        (*UNAVAILABLE_RESPONSE[:2], {"X-Request-Outcome": "unknown", "Retry-After": "1"}),
    ]
    with pytest.raises(ServerUnavailable) as raised:
        new_client(scripted_server).refill(money=10)
    assert raised.value.outcome_unknown
    assert raised.value.retry_after_s == 1


UNKNOWN_OUTCOME: PreparedResponse = (
    503,
    b'{"result":"0013","message":"update failed"}',
    {"Retry-After": "0", "X-Request-Outcome": "unknown", "X-Retry-Request-Id": "from-the-server"},
)


def test_exception_with_unknown_outcome_has_the_request_id(scripted_server: ScriptedServer) -> None:
    scripted_server.responses = [UNKNOWN_OUTCOME, UNKNOWN_OUTCOME, UNKNOWN_OUTCOME, OK_RESPONSE]
    api_client = new_client(scripted_server)
    with pytest.raises(ServerUnavailable) as raised:
        api_client.send_gift(value=1, object=ANN_PHONE, description="rose")
    error = raised.value
    assert error.outcome_unknown
    assert error.retry_request_id == "from-the-server"
    api_client.send_gift(value=1, object=ANN_PHONE, description="rose", requestId=error.request_id)
    assert {request["requestId"][0] for request in scripted_server.received} == {error.request_id}
    assert len(scripted_server.received) == 4


@pytest.mark.parametrize("method", ["send_gift", "refill"])
@pytest.mark.parametrize("response", [None, (502, b"<html>", {}), (200, b"", {})])
def test_exception_for_an_invalid_response_has_the_request_id(
    method: str, response: PreparedResponse | None, scripted_server: ScriptedServer
) -> None:
    scripted_server.responses = [response] * 3
    gift = {"value": 1, "object": ANN_PHONE, "description": "rose"}
    with pytest.raises(InvalidResponse) as raised:
        getattr(new_client(scripted_server), method)(
            **(gift if method == "send_gift" else {"money": 10})
        )
    assert raised.value.request_id
    assert [request["requestId"] for request in scripted_server.received] == [
        [raised.value.request_id]
    ] * 3


ERROR_0013 = b'{"result":"0013","message":"update failed"}'
LEDGER_BUSY: PreparedResponse = (200, ERROR_0013, {"X-Error": "request; reason=ledger_busy"})
TOKEN_EXPIRED: PreparedResponse = (
    200,
    b'{"result":"0011","message":null}',
    {"X-Error": "token; reason=token_expired"},
)
RATE_LIMITED: PreparedResponse = (200, ERROR_0013, {"X-Error": "request; reason=rate_limited"})
INTERNAL_ERROR: PreparedResponse = (500, ERROR_0013, {"X-Error": "request; reason=internal_error"})


@pytest.mark.parametrize(
    "responses",
    [
        [UNKNOWN_OUTCOME, LEDGER_BUSY, LEDGER_BUSY],
        [UNKNOWN_OUTCOME, UNAVAILABLE_RESPONSE, UNAVAILABLE_RESPONSE],
        [UNKNOWN_OUTCOME, INTERNAL_ERROR, INTERNAL_ERROR],
        [UNKNOWN_OUTCOME, TOKEN_EXPIRED],
        [UNKNOWN_OUTCOME, RATE_LIMITED],
        [None, TOKEN_EXPIRED],
        [INTERNAL_ERROR, INTERNAL_ERROR, INTERNAL_ERROR],
    ],
)
def test_outcome_stays_unknown_until_the_ledger_responds(
    responses: list[PreparedResponse | None], scripted_server: ScriptedServer
) -> None:
    scripted_server.responses = responses[:]
    with pytest.raises(ApiError) as raised:
        new_client(scripted_server).send_gift(value=1, object=ANN_PHONE, description="rose")
    assert raised.value.outcome_unknown
    assert raised.value.request_id
    assert len(scripted_server.received) == len(responses)


@pytest.mark.parametrize(
    "x_error",
    [
        "value; reason=insufficient_coins",
        "requestId; reason=request_id_reused",
        "object; reason=balance_limit",
    ],
)
def test_outcome_is_known_after_an_error_of_the_ledger(
    x_error: str, scripted_server: ScriptedServer
) -> None:
    scripted_server.responses = [UNKNOWN_OUTCOME, (200, ERROR_0013, {"X-Error": x_error})]
    with pytest.raises(OperationRefused) as raised:
        new_client(scripted_server).send_gift(value=1, object=ANN_PHONE, description="rose")
    assert not raised.value.outcome_unknown


@pytest.mark.parametrize(
    "response", [LEDGER_BUSY, TOKEN_EXPIRED, RATE_LIMITED, UNAVAILABLE_RESPONSE]
)
def test_outcome_is_known_if_the_outcome_of_each_attempt_is_known(
    response: PreparedResponse, scripted_server: ScriptedServer
) -> None:
    scripted_server.responses = [response] * 3
    with pytest.raises(ApiError) as raised:
        new_client(scripted_server).send_gift(value=1, object=ANN_PHONE, description="rose")
    assert not raised.value.outcome_unknown


def test_gift_that_timed_out_in_the_queue_is_retried(scripted_server: ScriptedServer) -> None:
    scripted_server.responses = [UNKNOWN_OUTCOME, LEDGER_BUSY, OK_RESPONSE]
    new_client(scripted_server).send_gift(value=1, object=ANN_PHONE, description="rose")
    assert len(scripted_server.received) == 3


def test_exception_of_a_rejected_gift_has_its_request_id(scripted_server: ScriptedServer) -> None:
    scripted_server.responses = [
        (200, UNAVAILABLE_RESPONSE[1], {"X-Error": "value; reason=insufficient_coins"})
    ]
    with pytest.raises(OperationRefused) as raised:
        new_client(scripted_server).send_gift(
            value=1, object=ANN_PHONE, description="rose", requestId="mine"
        )
    assert raised.value.request_id == "mine"


def test_exception_of_an_operation_without_request_id_has_no_request_id(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.responses = [UNAVAILABLE_RESPONSE] * 3
    with pytest.raises(ServerUnavailable) as raised:
        new_client(scripted_server).friendlist()
    assert raised.value.request_id is None


NOT_FRIENDS: PreparedResponse = (
    200,
    b'{"result":"0006","message":null}',
    {"X-Error": "userId; reason=not_friends"},
)


@pytest.mark.parametrize("first_response", [None, UNKNOWN_OUTCOME])
def test_not_friends_error_after_an_unknown_outcome_is_success(
    first_response: PreparedResponse | None, scripted_server: ScriptedServer
) -> None:
    scripted_server.responses = [first_response, NOT_FRIENDS]
    new_client(scripted_server).unfriend(userId=BEN_PHONE)
    assert len(scripted_server.received) == 2


@pytest.mark.parametrize("earlier_responses", [[], [UNAVAILABLE_RESPONSE]])
def test_not_friends_error_is_raised_if_all_outcomes_are_known(
    earlier_responses: list[PreparedResponse], scripted_server: ScriptedServer
) -> None:
    scripted_server.responses = [*earlier_responses, NOT_FRIENDS]
    with pytest.raises(OperationRefused, match="is not a friend"):
        new_client(scripted_server).unfriend(userId=BEN_PHONE)


def test_unknown_user_after_an_unknown_outcome_is_an_error(scripted_server: ScriptedServer) -> None:
    unknown_user = (*NOT_FRIENDS[:2], {"X-Error": "userId; reason=unknown_user"})
    scripted_server.responses = [UNKNOWN_OUTCOME, unknown_user]
    with pytest.raises(OperationRefused, match="is not registered"):
        new_client(scripted_server).unfriend(userId=BEN_PHONE)


def test_operation_that_is_not_idempotent_is_sent_once(scripted_server: ScriptedServer) -> None:
    scripted_server.responses = [UNAVAILABLE_RESPONSE]
    with pytest.raises(ServerUnavailable):
        new_client(scripted_server).log_out()
    assert len(scripted_server.received) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"message":null}',
        b'{"result":13,"message":null}',
        b'{"result":"0000"}',
        b'{"result":"0000","message":null}',
        b'{"result":"0000","message":[]}',
        b'{"result":"0000","message":{"count":1}}',
    ],
)
def test_response_without_a_valid_envelope_raises_invalid_response(
    body: bytes, scripted_server: ScriptedServer
) -> None:
    scripted_server.responses = [(200, body, {})] * 3
    with pytest.raises(InvalidResponse):
        new_client(scripted_server).friendlist()


@pytest.mark.parametrize("message", [b"null", b"{}", b'"{"', b'"[]"', b'"{}"'])
def test_stream_that_is_not_a_json_string_raises_invalid_response(
    message: bytes, scripted_server: ScriptedServer
) -> None:
    scripted_server.responses = [(200, b'{"result":"0000","message":%s}' % message, {})] * 3
    with pytest.raises(InvalidResponse):
        new_client(scripted_server).live()


@pytest.mark.parametrize("flag", [b"", b',"flag":1', b',"flag":null'])
def test_search_result_without_a_valid_flag_raises_invalid_response(
    flag: bytes, scripted_server: ScriptedServer
) -> None:
    profile = b'{"userId":"13800000001","nickname":null,"gender":null,"headImage":null}'
    scripted_server.responses = [
        (200, b'{"result":"0000","message":%s%s}' % (profile, flag), {})
    ] * 3
    with pytest.raises(InvalidResponse):
        new_client(scripted_server).search(userId=ANN_PHONE)


def test_delay_before_a_retry_is_limited(scripted_server: ScriptedServer) -> None:
    scripted_server.responses = [(*UNAVAILABLE_RESPONSE[:2], {"Retry-After": "60"}), OK_RESPONSE]
    api_client = Client(
        f"http://127.0.0.1:{scripted_server.server_port}",
        token="t",
        timeout_s=5,
        max_retry_wait_s=0.01,
    )
    api_client.leave()
    assert len(scripted_server.received) == 2


def test_refused_connection_raises_connection_failed() -> None:
    with pytest.raises(ConnectionFailed):
        Client("http://127.0.0.1:9", max_attempts=2, timeout_s=2).friendlist()
