"""A server without a socket, and clients of it whose methods block."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import httpx

from livebackend_client import AsyncClient, Client

# Status, body and headers.
PreparedResponse = tuple[int, bytes, dict[str, str]]
TOKEN = "the-login-token"
CLIENT_TYPES = (Client, AsyncClient)


class ScriptedServer:
    """A server that sends prepared responses and records the forms that it received."""

    def __init__(self, *responses: PreparedResponse | None) -> None:
        # For None, the server closes the connection without a response.
        self.responses = list(responses)
        self.received: list[dict[str, str]] = []

    def respond(self, request: httpx.Request) -> httpx.Response:
        form = parse_qs(request.content.decode(), keep_blank_values=True)
        self.received.append({name: value for name, (value,) in form.items()})
        response = self.responses.pop(0)
        if response is None:
            raise httpx.RemoteProtocolError("the server closed the connection", request=request)
        status, content, headers = response
        return httpx.Response(status, content=content, headers=headers)


class _BlockingClient:
    """An asynchronous client whose methods block, as those of Client do."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda **arguments: self._runner.run(method(**arguments))


@contextmanager
def blocking_client(
    client_type: type[Client | AsyncClient], address: str, **options: Any
) -> Iterator[Any]:
    """Yield a client, and close it at the end."""
    if issubclass(client_type, Client):
        with client_type(address, **options) as client:
            yield client
    else:
        with asyncio.Runner() as runner:
            async_client = client_type(address, **options)
            try:
                yield _BlockingClient(async_client, runner)
            finally:
                runner.run(async_client.aclose())


@contextmanager
def client_of(
    server: ScriptedServer, client_type: type[Client | AsyncClient], **options: Any
) -> Iterator[Any]:
    """Yield a client of a scripted server; it does not wait between attempts."""
    transport = httpx.MockTransport(server.respond)
    http_client_type = httpx.Client if client_type is Client else httpx.AsyncClient
    options = {
        "token": TOKEN,
        "max_retry_wait_s": 0,
        "http_client": http_client_type(transport=transport),
        **options,
    }
    with blocking_client(client_type, "http://server.example", **options) as client:
        yield client
