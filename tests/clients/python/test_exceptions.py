"""Tests of the exceptions: their classes, attributes and texts."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import livebackend_client
from livebackend.api.result_codes import ResultCode
from livebackend_client import (
    ApiError,
    CoinsNotUpdated,
    ConnectionFailed,
    ErrorReason,
    InvalidResponse,
    OperationRefused,
    ServerUnavailable,
    TokenExpired,
    UnknownError,
)
from livebackend_client.result_exceptions import RESULT_EXCEPTIONS
from tests.clients.python.scripted_server import TOKEN, ScriptedServer
from tests.support.markdown import DOCS, Page

PASSWORD = "harbour-42"


def raised_error(server: ScriptedServer, client: Any, body: bytes, **headers: str) -> ApiError:
    """Return the exception of a login whose response has this body and headers."""
    x_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    server.responses = [(200, body, x_headers)] * 3
    with pytest.raises(ApiError) as raised:
        client.log_in(user_id="13800000001", password=PASSWORD)
    return raised.value


@pytest.mark.parametrize("result", [result for result in ResultCode if result.code != "0000"])
def test_each_result_code_raises_its_own_exception(
    result: ResultCode, server: ScriptedServer, client: Any
) -> None:
    error = raised_error(server, client, b'{"result":"%s"}' % result.code.encode())
    name = result.name.title().replace("_", "")
    assert type(error) is getattr(livebackend_client, name)
    assert isinstance(error, OperationRefused)
    assert (error.code, type(error).code) == (result.code, result.code)
    assert (error.meaning, error.chinese_meaning) == (result.english, result.chinese)
    assert (error.explain(), error.explain(chinese=True)) == (result.english, result.chinese)
    assert str(error) == f"{result.code} {result.english}"


def test_result_code_of_a_newer_server_raises_operation_refused(
    server: ScriptedServer, client: Any
) -> None:
    error = raised_error(server, client, b'{"result":"0014","message":null}')
    assert type(error) is OperationRefused
    assert str(error) == "0014 result code of a newer server"


@pytest.mark.parametrize("result", [b"1", b'"1"', b'"00014"', b"null", b'"OK"'])
def test_result_that_is_not_a_result_code_raises_invalid_response(
    result: bytes, server: ScriptedServer, client: Any
) -> None:
    error = raised_error(server, client, b'{"result":%s,"message":null}' % result)
    assert type(error) is InvalidResponse


def test_unavailable_server_is_not_the_error_of_the_result_code(
    server: ScriptedServer, client: Any
) -> None:
    server.responses = [(503, b'{"result":"0012"}', {})] * 3
    with pytest.raises(ServerUnavailable) as raised:
        client.friendlist()
    assert str(raised.value) == "0012 the server cannot process the request now"
    assert (raised.value.retry_after_s, raised.value.status) == (1, 503)


def test_exception_has_parameter_reason_and_limits(server: ScriptedServer, client: Any) -> None:
    x_error = "nickname; reason=too_long; max=32"
    error = raised_error(server, client, b'{"result":"0006"}', X_Error=x_error)
    assert isinstance(error, UnknownError)
    assert error.reason is ErrorReason.TOO_LONG
    assert (error.parameter, error.limits) == ("nickname", {"max": "32"})
    assert str(error) == "0006 unknown error: nickname has more than 32 characters"
    assert error.explain(chinese=True) == "nickname：超过 32 个字符"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [({"Retry_After": "60"}, 60), ({}, None), ({"Retry_After": "tomorrow"}, None)],
)
def test_exception_of_a_rate_limit_has_the_seconds_until_a_retry(
    headers: dict[str, str], wait_s: float | None, server: ScriptedServer, client: Any
) -> None:
    x_error = "userId; reason=rate_limited"
    error = raised_error(server, client, b'{"result":"0005"}', X_Error=x_error, **headers)
    assert isinstance(error, OperationRefused)
    assert (error.reason, error.retry_after_s) == (ErrorReason.RATE_LIMITED, wait_s)


@pytest.mark.parametrize(
    ("header", "reason", "explanation"),
    [
        ("nickname; reason=too_long", ErrorReason.TOO_LONG, "nickname: too_long"),
        ("nickname; reason=later_reason; max=1", "later_reason", "nickname: later_reason"),
        ("nickname", None, "unknown error"),
        ("", None, "unknown error"),
    ],
)
def test_explanation_of_an_error_of_another_server_version(
    header: str, reason: str | None, explanation: str
) -> None:
    error = UnknownError("0006", error_header=header)
    assert (error.reason, error.explain()) == (reason, explanation)


def test_exception_shows_the_request_id_of_the_server(server: ScriptedServer, client: Any) -> None:
    error = raised_error(server, client, b'{"result":"0011"}', X_Request_Id="4f1c")
    assert isinstance(error, TokenExpired)
    assert error.server_request_id == "4f1c"
    assert str(error) == "0011 login token expired (X-Request-Id 4f1c)"
    invalid = raised_error(server, client, b"<html>", X_Request_Id="4f1d")
    assert (type(invalid), invalid.server_request_id) == (InvalidResponse, "4f1d")


def test_exception_without_a_response_has_no_request_id_of_the_server(
    server: ScriptedServer, client: Any
) -> None:
    server.responses = [None]
    with pytest.raises(ConnectionFailed) as raised:
        client.log_out()
    assert raised.value.server_request_id is None
    assert str(raised.value) == "RemoteProtocolError: the server closed the connection"


def linked_exceptions(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its cause and its context, and theirs."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "response",
    [
        None,
        (200, b'{"result":"0000","message":"a-new-token', {}),
        (200, b'{"result":"0000","message":["a-new-token"]}', {}),
        (200, b'{"result":"a-new-token"}', {}),
        (
            200,
            b'{"result":"0008","message":"a-new-token"}',
            {"X-Error": "password; reason=missing"},
        ),
    ],
)
def test_exception_contains_no_secret(response: Any, server: ScriptedServer, client: Any) -> None:
    server.responses = [response]
    with pytest.raises(ApiError) as raised:
        client.change_password(old_password=PASSWORD, password=PASSWORD)
    for error in linked_exceptions(raised.value):
        text = f"{error} {error!r} {vars(error)}"
        assert not [secret for secret in (TOKEN, PASSWORD, "a-new-token") if secret in text]


@pytest.mark.parametrize(
    "error",
    [
        CoinsNotUpdated("0013", error_header="value; reason=insufficient_coins"),
        CoinsNotUpdated("0013", error_header="request; reason=rate_limited", retry_after_s=60),
        ServerUnavailable("0013", retry_after_s=3, retry_request_id="a", outcome_unknown=True),
        InvalidResponse("it is not JSON"),
    ],
)
def test_exception_can_be_pickled(error: ApiError) -> None:
    error.request_id = "mine"
    unpickled_error = pickle.loads(pickle.dumps(error))
    assert type(unpickled_error) is type(error)
    assert vars(unpickled_error) == vars(error)


def test_documentation_has_the_exception_of_each_result_code() -> None:
    text = Page(DOCS / "clients.md").text
    for code, exception in RESULT_EXCEPTIONS.items():
        assert f"| {code} | `{exception.__name__}` |" in text
