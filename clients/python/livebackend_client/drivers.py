"""Base classes of the clients: they send requests and wait, as the protocol says."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from functools import cache
from typing import Any, Generic, Self, TypeVar, cast

import httpx

from livebackend_client.protocol import (
    Operation,
    Outcome,
    Request,
    Step,
    Steps,
    Wait,
    call_steps,
    read_files,
)

T = TypeVar("T")
HttpClient = TypeVar("HttpClient", httpx.Client, httpx.AsyncClient)


class Driver(Generic[HttpClient]):
    """A server's address, and the settings of all calls."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
        max_attempts: int = 3,
        max_retry_wait_s: float = 5.0,
        http_client: HttpClient | None = None,
    ) -> None:
        """Configure the client; send nothing yet.

        `max_attempts` is the maximum number of attempts; a call is retried only if that is safe.
        `max_retry_wait_s` limits the wait between two attempts, also if Retry-After is longer. The
        caller closes an `http_client`.
        """
        if httpx.URL(address).scheme not in ("http", "https"):
            raise ValueError("the address of a server starts with http:// or https://")
        self.address = address.rstrip("/")
        self.token = token
        self.timeout_s = timeout_s
        self.max_attempts = max_attempts
        self.max_retry_wait_s = max_retry_wait_s
        self._owns_http_client = http_client is None
        self._http_client: HttpClient = http_client or self._new_http_client()

    def _new_http_client(self) -> HttpClient:
        raise NotImplementedError

    def _steps(self, operation: Operation[T], parameters: Mapping[str, object]) -> Steps[T]:
        return call_steps(
            operation,
            parameters,
            token=self.token,
            max_attempts=self.max_attempts,
            max_retry_wait_s=self.max_retry_wait_s,
        )

    def _post_arguments(self, request: Request) -> dict[str, Any]:
        """Return the arguments of `post` of an httpx client."""
        return {
            "url": self.address + request.path,
            "data": request.fields,
            "files": request.files or None,
            "timeout": self.timeout_s,
        }


class SyncDriver(Driver[httpx.Client]):
    """Base class of the client whose methods block. Threads can share a client."""

    def call(self, operation: Operation[T], parameters: Mapping[str, object]) -> T:
        """Send a call; `call_steps` describes the exceptions."""
        steps = self._steps(operation, read_files(operation, parameters))
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                return cast(T, stop.value)
            try:
                outcome = self._execute(step)
            except BaseException as error:
                steps.throw(error)  # notes the idempotency key, and raises the error again
                raise

    def close(self) -> None:
        """Close the connections to the server."""
        if self._owns_http_client:
            self._http_client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_http_client(self) -> httpx.Client:
        return httpx.Client(verify=_tls())

    def _execute(self, step: Step) -> Outcome:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        try:
            return self._http_client.post(**self._post_arguments(step))
        except httpx.RequestError as error:
            return error


class AsyncDriver(Driver[httpx.AsyncClient]):
    """Base class of the client for asyncio."""

    async def call(self, operation: Operation[T], parameters: Mapping[str, object]) -> T:
        """Send a call; `call_steps` describes the exceptions."""
        if operation.file_parameters:
            parameters = await asyncio.to_thread(read_files, operation, parameters)
        steps = self._steps(operation, parameters)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                return cast(T, stop.value)
            try:
                outcome = await self._execute(step)
            except BaseException as error:
                steps.throw(error)  # notes the idempotency key, and raises the error again
                raise

    async def aclose(self) -> None:
        """Close the connections to the server."""
        if self._owns_http_client:
            await self._http_client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _new_http_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=_tls())

    async def _execute(self, step: Step) -> Outcome:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return await self._http_client.post(**self._post_arguments(step))
        except httpx.RequestError as error:
            return error


@cache
def _tls() -> ssl.SSLContext:
    # All clients share it, because loading the certificates takes about 20 ms.
    return httpx.create_ssl_context()
