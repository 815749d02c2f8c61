"""An HTTP client whose calls end in time, whatever the server does."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass

import requests
from requests import Response
from requests.auth import AuthBase

from livebackend.gateways.circuit_breaker import CONCURRENCY_MAX, TOTAL_S, Breaker, Deadline, Turns
from livebackend.gateways.interruptible_adapter import InterruptibleAdapter

_CONNECT_S = 1.5
_BYTES_MAX = 1_048_576
_CHUNK_BYTES = 65_536

log = logging.getLogger(__name__)


class CallFailed(Exception):
    """The server sent no response, or not in time, or not to the end.

    `word` is "unreachable", "timeout" or "too large". `outcome_unknown`: the server may have
    processed the request.
    """

    def __init__(self, word: str, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(f"{word}: {message}")
        self.word = word
        self.message = message
        self.outcome_unknown = outcome_unknown


@dataclass(frozen=True)
class Answer:
    """A complete response of the server."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Caller:
    """Calls one server: directly, without proxies of the environment, and follows no redirect.

    A call takes 4 s at most, even if the answer comes byte by byte or the server's name cannot be
    looked up. Nothing is ever sent twice.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: AuthBase | None = None,
        bytes_max: int = _BYTES_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._auth = auth
        self._bytes_max = bytes_max
        self._breaker = Breaker(clock=clock)
        self._turns = Turns()
        self._threads = ThreadPoolExecutor(CONCURRENCY_MAX, thread_name_prefix="call")

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: Deadline | None = None,
    ) -> Answer:
        """The answer, whatever its status. Raises CallFailed."""
        deadline = deadline or Deadline()
        if not self._breaker.admits():
            raise CallFailed("unreachable", "it has not answered lately")
        if not self._turns.take(deadline):
            raise CallFailed("unreachable", "too many wait for it")
        adapter = InterruptibleAdapter()
        asking = self._threads.submit(self._ask, adapter, method, path, body, dict(headers or {}))
        # When the thread ends, not when the caller stops waiting: a thread that hangs counts.
        asking.add_done_callback(lambda _: self._turns.give_back())
        try:
            answer = _waited_for(asking, deadline.left_s)
        except CallFailed as error:
            self._breaker.failed()
            # A query can hold a token.
            log.warning("%s %s: %s", method, path.partition("?")[0], error.word)
            raise
        finally:
            adapter.cut()
        self._breaker.answered()
        return answer

    def _ask(
        self,
        adapter: InterruptibleAdapter,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> Answer:
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
                timeout=(_CONNECT_S, TOTAL_S),
                # A signature holds for one host alone.
                allow_redirects=False,
                stream=True,
            )
            with response:
                return Answer(response.status_code, response.headers, self._content(response))

    def _content(self, response: Response) -> bytes:
        content = bytearray()
        for chunk in response.iter_content(_CHUNK_BYTES):
            content += chunk
            if len(content) > self._bytes_max:
                raise CallFailed(
                    "too large", f"more than {self._bytes_max} bytes", outcome_unknown=True
                )
        return bytes(content)


def _waited_for(asking: Future[Answer], wait_s: float) -> Answer:
    try:
        return asking.result(wait_s)
    except TookTooLong as error:
        asking.cancel()
        raise _timeout("no answer in time") from error
    except (requests.ConnectTimeout, requests.exceptions.SSLError) as error:
        raise CallFailed("unreachable", str(error)) from error
    except requests.Timeout as error:
        raise _timeout(str(error)) from error
    except requests.RequestException as error:
        # The connection ended early: the server may have read the whole request.
        raise CallFailed("unreachable", str(error), outcome_unknown=True) from error


def _timeout(message: str) -> CallFailed:
    return CallFailed("timeout", message, outcome_unknown=True)
