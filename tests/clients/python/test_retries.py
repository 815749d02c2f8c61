"""Tests of the retries of a call, and of the outcome that its exception shows."""

import asyncio
import re
import time
from typing import Any

import pytest

from livebackend_client import (
    ApiError,
    ConnectionFailed,
    InvalidResponse,
    OperationRefused,
    ServerUnavailable,
)
from tests.clients.python.scripted_server import (
    CLIENT_TYPES,
    PreparedResponse,
    ScriptedServer,
    client_of,
)

GIFT = {"value": 1, "object": "13800000001", "description": "rose"}
USER = {"user_id": "13800000002"}
OK: PreparedResponse = (200, b'{"result":"0000","message":null}', {})
BODY_0013 = b'{"result":"0013","message":"update failed"}'
UNAVAILABLE: PreparedResponse = (503, BODY_0013, {"Retry-After": "1"})
UNKNOWN_OUTCOME: PreparedResponse = (
    503,
    BODY_0013,
    {"Retry-After": "1", "X-Request-Outcome": "unknown", "X-Retry-Request-Id": "from-the-server"},
)
INTERNAL_ERROR: PreparedResponse = (500, BODY_0013, {"X-Error": "request; reason=internal_error"})
LEDGER_BUSY: PreparedResponse = (200, BODY_0013, {"X-Error": "request; reason=ledger_busy"})
RATE_LIMITED: PreparedResponse = (200, BODY_0013, {"X-Error": "request; reason=rate_limited"})
TOKEN_EXPIRED: PreparedResponse = (
    200,
    b'{"result":"0011","message":null}',
    {"X-Error": "token; reason=token_expired"},
)
INSUFFICIENT_COINS: PreparedResponse = (
    200,
    BODY_0013,
    {"X-Error": "value; reason=insufficient_coins"},
)
NOT_FRIENDS: PreparedResponse = (
    200,
    b'{"result":"0006","message":null}',
    {"X-Error": "userId; reason=not_friends"},
)


def test_gift_is_retried_with_the_same_request_id(server: ScriptedServer, client: Any) -> None:
    server.responses = [UNAVAILABLE, UNAVAILABLE, OK]
    client.send_gift(**GIFT)
    assert len(server.received) == 3
    assert len({request["requestId"] for request in server.received}) == 1


def test_client_raises_after_three_unavailable_responses(
    server: ScriptedServer, client: Any
) -> None:
    server.responses = [UNAVAILABLE, UNAVAILABLE, UNKNOWN_OUTCOME]
    with pytest.raises(ServerUnavailable) as raised:
        client.refill(money=10)
    assert raised.value.outcome_unknown
    assert raised.value.retry_after_s == 1


def test_exception_with_unknown_outcome_has_the_request_id(
    server: ScriptedServer, client: Any
) -> None:
    server.responses = [UNKNOWN_OUTCOME, UNKNOWN_OUTCOME, UNKNOWN_OUTCOME, OK]
    with pytest.raises(ServerUnavailable) as raised:
        client.send_gift(**GIFT)
    error = raised.value
    assert error.outcome_unknown
    assert error.retry_request_id == "from-the-server"
    client.send_gift(**GIFT, request_id=error.request_id)
    assert [request["requestId"] for request in server.received] == [error.request_id] * 4


@pytest.mark.parametrize("response", [None, (502, b"<html>", {}), (200, b"", {})])
def test_exception_for_an_invalid_response_has_the_request_id(
    response: PreparedResponse | None, server: ScriptedServer, client: Any
) -> None:
    server.responses = [response] * 3
    with pytest.raises(InvalidResponse) as raised:
        client.refill(money=10)
    assert raised.value.request_id
    assert [request["requestId"] for request in server.received] == [raised.value.request_id] * 3


@pytest.mark.parametrize(
    "responses",
    [
        [UNKNOWN_OUTCOME, LEDGER_BUSY, LEDGER_BUSY],
        [UNKNOWN_OUTCOME, UNAVAILABLE, UNAVAILABLE],
        [UNKNOWN_OUTCOME, INTERNAL_ERROR, INTERNAL_ERROR],
        [UNKNOWN_OUTCOME, TOKEN_EXPIRED],
        [UNKNOWN_OUTCOME, RATE_LIMITED],
        [None, TOKEN_EXPIRED],
        [INTERNAL_ERROR, INTERNAL_ERROR, INTERNAL_ERROR],
    ],
)
def test_outcome_stays_unknown_until_the_ledger_responds(
    responses: list[PreparedResponse | None], server: ScriptedServer, client: Any
) -> None:
    server.responses = responses[:]
    with pytest.raises(ApiError) as raised:
        client.send_gift(**GIFT)
    assert raised.value.outcome_unknown
    assert raised.value.request_id
    assert len(server.received) == len(responses)


@pytest.mark.parametrize(
    "x_error",
    [
        "value; reason=insufficient_coins",
        "requestId; reason=request_id_reused",
        "object; reason=balance_limit",
    ],
)
def test_outcome_is_known_after_an_error_of_the_ledger(
    x_error: str, server: ScriptedServer, client: Any
) -> None:
    server.responses = [UNKNOWN_OUTCOME, (200, BODY_0013, {"X-Error": x_error})]
    with pytest.raises(OperationRefused) as raised:
        client.send_gift(**GIFT)
    assert not raised.value.outcome_unknown


@pytest.mark.parametrize("response", [LEDGER_BUSY, TOKEN_EXPIRED, RATE_LIMITED, UNAVAILABLE])
def test_outcome_is_known_if_the_outcome_of_each_attempt_is_known(
    response: PreparedResponse, server: ScriptedServer, client: Any
) -> None:
    server.responses = [response] * 3
    with pytest.raises(ApiError) as raised:
        client.send_gift(**GIFT)
    assert not raised.value.outcome_unknown


@pytest.mark.parametrize("request_id", [None, ""])
def test_gift_without_a_request_id_or_with_an_empty_one_gets_a_generated_one(
    request_id: str | None, server: ScriptedServer, client: Any
) -> None:
    server.responses = [None] * 3
    with pytest.raises(ConnectionFailed) as raised:
        client.send_gift(**GIFT, request_id=request_id)
    assert re.fullmatch("[0-9a-f]{32}", raised.value.request_id or "")
    assert [request["requestId"] for request in server.received] == [raised.value.request_id] * 3


def with_id(response: PreparedResponse, server_request_id: str) -> PreparedResponse:
    status, content, headers = response
    return status, content, {**headers, "X-Request-Id": server_request_id}


@pytest.mark.parametrize(
    ("responses", "server_request_id"),
    [
        ([with_id(UNKNOWN_OUTCOME, "a"), None, None], "a"),
        ([with_id(UNAVAILABLE, "a"), with_id(UNKNOWN_OUTCOME, "b"), None], "b"),
        ([with_id(UNKNOWN_OUTCOME, "a"), with_id(UNKNOWN_OUTCOME, "b"), None], "a"),
        ([None, with_id(UNKNOWN_OUTCOME, "b"), with_id(LEDGER_BUSY, "c")], "b"),
        ([with_id(UNKNOWN_OUTCOME, "a"), with_id(RATE_LIMITED, "b")], "a"),
        ([None, with_id(RATE_LIMITED, "b")], "b"),
        ([with_id(UNAVAILABLE, "a"), None, None], "a"),
        ([with_id(UNKNOWN_OUTCOME, "a"), with_id(INSUFFICIENT_COINS, "b")], "b"),
        ([with_id(UNAVAILABLE, "a"), with_id(UNAVAILABLE, "b"), UNAVAILABLE], "b"),
    ],
)
def test_exception_has_the_server_request_id_of_the_attempt_with_the_unknown_outcome(
    responses: list[PreparedResponse | None],
    server_request_id: str,
    server: ScriptedServer,
    client: Any,
) -> None:
    server.responses = responses[:]
    with pytest.raises(ApiError) as raised:
        client.send_gift(**GIFT)
    assert raised.value.server_request_id == server_request_id
    assert len(server.received) == len(responses)


def test_gift_that_timed_out_in_the_queue_is_retried(server: ScriptedServer, client: Any) -> None:
    server.responses = [UNKNOWN_OUTCOME, LEDGER_BUSY, OK]
    client.send_gift(**GIFT)
    assert len(server.received) == 3


def test_exception_of_a_rejected_gift_has_its_request_id(
    server: ScriptedServer, client: Any
) -> None:
    server.responses = [(200, BODY_0013, {"X-Error": "value; reason=insufficient_coins"})]
    with pytest.raises(OperationRefused) as raised:
        client.send_gift(**GIFT, request_id="mine")
    assert raised.value.request_id == "mine"


def test_exception_of_an_operation_without_request_id_has_no_request_id(
    server: ScriptedServer, client: Any
) -> None:
    server.responses = [UNAVAILABLE] * 3
    with pytest.raises(ServerUnavailable) as raised:
        client.friendlist()
    assert raised.value.request_id is None


@pytest.mark.parametrize("first_response", [None, UNKNOWN_OUTCOME])
def test_not_friends_error_after_an_unknown_outcome_is_success(
    first_response: PreparedResponse | None, server: ScriptedServer, client: Any
) -> None:
    server.responses = [first_response, NOT_FRIENDS]
    assert client.unfriend(**USER) is None
    assert len(server.received) == 2


@pytest.mark.parametrize("earlier_responses", [[], [UNAVAILABLE]])
def test_not_friends_error_is_raised_if_all_outcomes_are_known(
    earlier_responses: list[PreparedResponse], server: ScriptedServer, client: Any
) -> None:
    server.responses = [*earlier_responses, NOT_FRIENDS]
    with pytest.raises(OperationRefused, match="is not a friend"):
        client.unfriend(**USER)


def test_unknown_user_after_an_unknown_outcome_is_an_error(
    server: ScriptedServer, client: Any
) -> None:
    unknown_user = (*NOT_FRIENDS[:2], {"X-Error": "userId; reason=unknown_user"})
    server.responses = [UNKNOWN_OUTCOME, unknown_user]
    with pytest.raises(OperationRefused, match="is not registered"):
        client.unfriend(**USER)


@pytest.mark.parametrize("response", [None, UNAVAILABLE])
def test_operation_that_is_not_idempotent_is_sent_once(
    response: PreparedResponse | None, server: ScriptedServer, client: Any
) -> None:
    server.responses = [response]
    with pytest.raises(ApiError):
        client.log_out()
    assert len(server.received) == 1


@pytest.mark.parametrize("response", [UNAVAILABLE, LEDGER_BUSY])
@pytest.mark.parametrize("client_type", CLIENT_TYPES)
def test_client_waits_for_retry_after_up_to_its_limit(
    client_type: Any, response: PreparedResponse, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_s = []

    async def sleep(seconds: float) -> None:
        waits_s.append(seconds)

    monkeypatch.setattr(time, "sleep", waits_s.append)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    status, content, headers = response
    responses = [(status, content, {**headers, "Retry-After": wait}) for wait in ("1", "60")]
    server = ScriptedServer(*responses, OK)
    with client_of(server, client_type, max_retry_wait_s=5) as client:
        client.send_gift(**GIFT)
    assert waits_s == [1, 5]


@pytest.mark.parametrize("client_type", CLIENT_TYPES)
def test_client_with_one_attempt_does_not_retry(client_type: Any) -> None:
    server = ScriptedServer(UNAVAILABLE)
    with client_of(server, client_type, max_attempts=1) as client, pytest.raises(ServerUnavailable):
        client.leave()
    assert len(server.received) == 1
