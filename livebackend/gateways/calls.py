"""Calls over HTTP that end in time, whatever the other side does."""

import logging
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import suppress
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from typing import Any

import requests
from requests import Response
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

# All of one call; and of it, to be connected.
TOTAL_S = 4.0
_CONNECT_S = 1.5
# Whoever calls holds one of the server's threads: a few at once, and the next wait only while those
# move on, so that one dead server outside never holds them all.
_AT_ONCE, _TURN_S = 4, 1.0
# So many calls in a row without an answer, and nobody is kept waiting for a while.
_FAILURES_MAX, _PAUSE_S = 3, 10.0
_BYTES_MAX = 1_048_576
_CHUNK_BYTES = 65_536

log = logging.getLogger(__name__)


class CallFailed(Exception):
    """Nobody answered, or not in time, or not to the end.

    `word` is "unreachable", "timeout" or "too large". `outcome_unknown`: what was asked for may
    have been done all the same.
    """

    def __init__(self, word: str, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(f"{word}: {message}")
        self.word = word
        self.message = message
        self.outcome_unknown = outcome_unknown


@dataclass(frozen=True)
class Answer:
    """What a server said, whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Deadline:
    """A moment that several calls share, `total_s` from now."""

    def __init__(self, total_s: float = TOTAL_S) -> None:
        self._at = time.monotonic() + total_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._at - time.monotonic())


class Breaker:
    """Spares callers a server that has just failed to answer several times.

    After a pause one call is let through; its answer lets all others in again.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._failures = 0
        self._next_try_at = 0.0

    def admits(self) -> bool:
        with self._lock:
            if self._failures < _FAILURES_MAX:
                return True
            if self._clock() < self._next_try_at:
                return False
            self._next_try_at = self._clock() + _PAUSE_S
            return True

    def answered(self) -> None:
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            self._next_try_at = self._clock() + _PAUSE_S


class _Turns:
    """A few at once. Whoever finds none free waits, unless none was taken or given back lately."""

    def __init__(self) -> None:
        self._free = BoundedSemaphore(_AT_ONCE)
        self._moved_at = time.monotonic()

    def take(self, deadline: Deadline) -> bool:
        wait_s = min(self._moved_at + _TURN_S - time.monotonic(), deadline.left_s)
        taken = self._free.acquire(blocking=False) or (
            wait_s > 0 and self._free.acquire(timeout=wait_s)
        )
        if taken:
            self._moved_at = time.monotonic()
        return taken

    def give_back(self) -> None:
        self._moved_at = time.monotonic()
        self._free.release()


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
        self._turns = _Turns()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="call")

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
        wire = _Wire()
        asking = self._threads.submit(self._ask, wire, method, path, body, dict(headers or {}))
        # Not when the caller has waited enough: a thread that hangs keeps its turn.
        asking.add_done_callback(lambda _: self._turns.give_back())
        try:
            answer = _waited_for(asking, deadline.left_s)
        except CallFailed as error:
            self._breaker.failed()
            # A query can hold a token.
            log.warning("%s %s: %s", method, path.partition("?")[0], error.word)
            raise
        finally:
            wire.cut()
        self._breaker.answered()
        return answer

    def _ask(
        self,
        wire: "_Wire",
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> Answer:
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", wire)
            session.mount("https://", wire)
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
        # Cut off half-way: nobody knows what was read of the request.
        raise CallFailed("unreachable", str(error), outcome_unknown=True) from error


def _timeout(message: str) -> CallFailed:
    return CallFailed("timeout", message, outcome_unknown=True)


class _Wire(HTTPAdapter):
    """The connection of one call, which its caller cuts when he has waited enough.

    A time limit on each silence would not do: an answer may come byte by byte for days.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    def cut(self) -> None:
        """Ends the connection, at whatever it is; one that is made later ends at once."""
        with self._lock:
            self._is_cut = True
            self._end()

    def get_connection_with_tls_context(self, *given: Any, **named: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*given, **named)
        wire, kind = self, pool.ConnectionCls

        class Connection(kind):  # type: ignore[misc, valid-type]  # for HTTP, or for HTTPS
            def _new_conn(self) -> socket.socket:
                made: socket.socket = super()._new_conn()
                wire._hold(made)
                return made

        pool.ConnectionCls = Connection
        return pool

    def _hold(self, made: socket.socket) -> None:
        with self._lock:
            # A second handle on it: TLS takes the first one's place.
            self._socket = made.dup()
            if self._is_cut:
                self._end()

    def _end(self) -> None:
        if self._socket is None:
            return
        with suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._socket = None
