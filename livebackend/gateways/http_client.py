"""An HTTP client whose calls always end before a deadline."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from requests import Response
from requests.auth import AuthBase

from livebackend.core.running_work import RunningWork
from livebackend.gateways.circuit_breaker import (
    CALL_TIMEOUT_S,
    MAX_CONCURRENT_CALLS,
    OPEN_DURATION_S,
    CircuitBreaker,
    ConcurrencyLimit,
    Deadline,
)
from livebackend.gateways.interruptible_adapter import InterruptibleAdapter

_CONNECT_TIMEOUT_S = 1.5
_MAX_RESPONSE_BYTES = 1_048_576
_CHUNK_BYTES = 65_536

log = logging.getLogger(__name__)

# The calls of all providers of this process that have not ended, also those whose caller no longer
# waits for the response.
running_calls = RunningWork()


class ProviderCallFailed(Exception):
    """A call to a provider ended without a complete response.

    `kind` is "unreachable", "timeout" or "too large". With `outcome_unknown`, the server may have
    processed the request.
    """

    def __init__(self, kind: str, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message
        self.outcome_unknown = outcome_unknown


@dataclass(frozen=True)
class ProviderResponse:
    """A complete HTTP response."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class ProviderClient:
    """HTTP client for the server of one provider.

    Ignores proxy variables, follows no redirects and never retries. A call takes at most 4 s, even
    if DNS hangs or the response arrives byte by byte. After several failed calls, the client sends
    only one request every `open_duration_s`.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: AuthBase | None = None,
        max_response_bytes: int = _MAX_RESPONSE_BYTES,
        open_duration_s: float = OPEN_DURATION_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._host = urlsplit(url).hostname
        self._auth = auth
        self._max_bytes = max_response_bytes
        self._breaker = CircuitBreaker(open_duration_s=open_duration_s, clock=clock)
        self._concurrency_limit = ConcurrencyLimit()
        self._executor = ThreadPoolExecutor(MAX_CONCURRENT_CALLS, thread_name_prefix="gateway")

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: Deadline | None = None,
    ) -> ProviderResponse:
        """Send a request; return the response, of any HTTP status. Raises ProviderCallFailed."""
        deadline = deadline or Deadline()
        if not self._breaker.allows_call():
            raise ProviderCallFailed(
                "unreachable", "no request was sent: the circuit breaker is open after failed calls"
            )
        if not self._concurrency_limit.acquire(deadline):
            raise ProviderCallFailed(
                "unreachable", "no request was sent: the limit of concurrent calls is reached"
            )
        adapter = InterruptibleAdapter()
        try:
            future = self._submit(adapter, method, path, body, dict(headers or {}))
            response = _wait_for(future, deadline.remaining_s)
        except ProviderCallFailed as error:
            self._breaker.record_failure()
            # The path is logged without its query, which can contain a token.
            log.warning(
                "gateway call %s %s%s failed: %s",
                method,
                self._host,
                path.partition("?")[0],
                error.kind,
            )
            raise
        finally:
            adapter.close_connection()
        self._breaker.record_success()
        return response

    def _submit(
        self,
        adapter: InterruptibleAdapter,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> Future[ProviderResponse]:
        """Send a request in another thread, which releases the permit when it ends.

        So a thread that hangs after the timeout still counts as a call.
        """
        running_call = running_calls.begin()

        def end(_: object = None) -> None:
            running_calls.end(running_call)
            self._concurrency_limit.release()

        try:
            future = self._executor.submit(self._send, adapter, method, path, body, headers)
        except RuntimeError as error:  # the system cannot start a thread
            # The executor has already queued the call. If another thread runs it later, it fails,
            # because `call` closes the connection of the adapter.
            end()
            raise ProviderCallFailed("unreachable", f"no request was sent: {error}") from error
        future.add_done_callback(end)
        return future

    def _send(
        self,
        adapter: InterruptibleAdapter,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> ProviderResponse:
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            response = session.request(
                method,
                self._url + path,
                data=body,
                headers={"Accept-Encoding": "identity", **headers},
                auth=self._auth,
                timeout=(_CONNECT_TIMEOUT_S, CALL_TIMEOUT_S),
                # A redirect can name another host, for which the request signature is invalid.
                allow_redirects=False,
                stream=True,
            )
            with response:
                return ProviderResponse(
                    response.status_code, response.headers, self._read(response)
                )

    def _read(self, response: Response) -> bytes:
        content = bytearray()
        for chunk in response.iter_content(_CHUNK_BYTES):
            content += chunk
            if len(content) > self._max_bytes:
                raise ProviderCallFailed(
                    "too large",
                    f"the response has more than {self._max_bytes} bytes",
                    outcome_unknown=True,
                )
        return bytes(content)


def _wait_for(future: Future[ProviderResponse], wait_s: float) -> ProviderResponse:
    try:
        return future.result(wait_s)
    except FutureTimeout as error:
        future.cancel()
        raise _timeout_error("no response before the deadline") from error
    except (requests.ConnectTimeout, requests.exceptions.SSLError) as error:
        raise ProviderCallFailed("unreachable", str(error)) from error
    except requests.Timeout as error:
        raise _timeout_error(str(error)) from error
    except requests.RequestException as error:
        # The connection was lost before the end of the response: the server may have processed the
        # request.
        raise ProviderCallFailed("unreachable", str(error), outcome_unknown=True) from error


def _timeout_error(message: str) -> ProviderCallFailed:
    return ProviderCallFailed("timeout", message, outcome_unknown=True)
