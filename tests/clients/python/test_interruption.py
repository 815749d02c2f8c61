"""Tests of calls that are cancelled or interrupted: the exception has the request id."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from livebackend_client import AsyncClient, Client

GIFT: dict[str, Any] = {"value": 1, "object": "13800000001", "description": "rose"}


def request_id_of(request: httpx.Request) -> str:
    return parse_qs(request.content.decode())["requestId"][0]


class SilentServer:
    """A server that never responds."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.received = asyncio.Event()

    async def respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.received.set()
        await asyncio.sleep(60)
        raise AssertionError


async def cancelled_error(
    server: SilentServer, call: Callable[[AsyncClient], Awaitable[object]]
) -> asyncio.CancelledError:
    """Cancel a call when the server has received it; return the exception."""
    transport = httpx.MockTransport(server.respond)
    async with httpx.AsyncClient(transport=transport) as http_client:
        task = asyncio.ensure_future(call(AsyncClient("http://a.example", http_client=http_client)))
        await server.received.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
    return raised.value


def test_cancelled_gift_has_its_request_id_as_a_note() -> None:
    async def scenario() -> None:
        server = SilentServer()
        error = await cancelled_error(server, lambda ann: ann.send_gift(**GIFT))
        (request,) = server.requests
        assert error.__notes__ == [f"request_id {request_id_of(request)}"]

    asyncio.run(scenario())


def test_cancelled_call_without_a_request_id_has_no_note() -> None:
    async def scenario() -> None:
        error = await cancelled_error(SilentServer(), lambda ann: ann.friendlist())
        assert not hasattr(error, "__notes__")

    asyncio.run(scenario())


def test_cause_of_a_timeout_has_the_request_id_of_the_refill() -> None:
    async def scenario() -> None:
        server = SilentServer()
        transport = httpx.MockTransport(server.respond)
        async with httpx.AsyncClient(transport=transport) as http_client:
            ann = AsyncClient("http://a.example", http_client=http_client)
            with pytest.raises(TimeoutError) as raised:
                async with asyncio.timeout(0.05):
                    await ann.refill(money=10, request_id="mine")
        assert raised.value.__cause__
        assert raised.value.__cause__.__notes__ == ["request_id mine"]

    asyncio.run(scenario())


def test_gift_that_is_cancelled_before_a_retry_has_its_request_id_as_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def cancelled_sleep(seconds: float) -> None:
        raise asyncio.CancelledError

    async def scenario() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(503, content=b"<html>"))
        async with httpx.AsyncClient(transport=transport) as http_client:
            ann = AsyncClient("http://a.example", http_client=http_client)
            monkeypatch.setattr(asyncio, "sleep", cancelled_sleep)
            with pytest.raises(asyncio.CancelledError) as raised:
                await ann.send_gift(**GIFT, request_id="mine")
        assert raised.value.__notes__ == ["request_id mine"]

    asyncio.run(scenario())


def test_gift_that_the_keyboard_interrupts_has_its_request_id_as_a_note() -> None:
    requests: list[httpx.Request] = []

    def interrupt(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        raise KeyboardInterrupt

    with (
        httpx.Client(transport=httpx.MockTransport(interrupt)) as http_client,
        pytest.raises(KeyboardInterrupt) as raised,
    ):
        Client("http://a.example", http_client=http_client).send_gift(**GIFT)
    assert raised.value.__notes__ == [f"request_id {request_id_of(requests[0])}"]
