"""HTTP client of the load: it knows whether a server can have executed a lost request."""

import http.client
import select
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

# A server that restarts refuses connections meanwhile. The client tries again for this time.
_CONNECT_FOR_S = 30.0
_CONNECT_PAUSE_S = 0.05
_TIMEOUT_S = 20.0
# A server closes an idle connection at the moment in which the client sends a request: the client
# learns of it within this time. A server that ends while it executes the request rarely ends so
# early.
_IDLE_CLOSE_S = 0.05
_MAX_SENDS = 10
_CLOSED = (
    http.client.RemoteDisconnected,
    ConnectionError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


@dataclass(frozen=True)
class Endpoint:
    """An address of the server, or of nginx if there is a TLS context.

    nginx opens a connection for each request to the server; so does a client of the server. A
    client of nginx reuses its connection, as browsers and apps do.
    """

    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Exchange:
    """A request that was sent, and its response; `status` is 0 without a response.

    `sent_at` is a time of time.monotonic(). `stale_count` counts the connections that were closed
    before the server had the whole request: the client sent it again.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_at: float
    duration_s: float
    stale_count: int = 0
    error: str = ""


class HttpClient:
    """Sends one request at a time from its own loopback address."""

    def __init__(self, endpoint: Endpoint, source_address: str) -> None:
        self._endpoint = endpoint
        self._source_address = source_address
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes, content_type: str) -> Exchange:
        """Send a request. A refused connection is tried again, and is not a part of the call."""
        headers = {"Content-Type": content_type, "Host": "live.example"}
        if self._endpoint.tls is None:
            headers["Connection"] = "close"
        for stale_count in range(_MAX_SENDS):
            is_reused = self._is_open()
            try:
                connection = self._connect()
            except OSError as error:
                return Exchange(0, {}, b"", time.monotonic(), 0, stale_count, f"connect: {error}")
            attempt = Attempt(connection, is_reused=is_reused)
            try:
                response, content = attempt.send("POST", path, body, headers)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if attempt.cannot_be_executed(error):
                    continue
                duration_s = attempt.duration_s
                return Exchange(0, {}, b"", attempt.sent_at, duration_s, stale_count, repr(error))
            if response.will_close or self._endpoint.tls is None:
                self.close()
            lower_headers = {name.lower(): value for name, value in response.getheaders()}
            return Exchange(
                response.status,
                lower_headers,
                content,
                attempt.sent_at,
                attempt.duration_s,
                stale_count,
            )
        error_text = f"{_MAX_SENDS} connections were closed before the request was complete"
        return Exchange(0, {}, b"", time.monotonic(), 0, _MAX_SENDS, error_text)

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

    def _is_open(self) -> bool:
        """Return whether there is a connection that the server has not closed."""
        if self._connection is None or self._connection.sock is None:
            return False
        poller = select.poll()
        poller.register(self._connection.sock, select.POLLIN)
        if poller.poll(0):
            self.close()
            return False
        return True

    def _connect(self) -> http.client.HTTPConnection:
        """Return the open connection, or a new one. Raises OSError after many attempts."""
        if self._connection:
            return self._connection
        deadline = time.monotonic() + _CONNECT_FOR_S
        while True:
            connection = self.new_connection()
            try:
                connection.connect()
            except OSError:
                with suppress(OSError):
                    connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(_CONNECT_PAUSE_S)
            else:
                self._connection = connection
                return connection

    def new_connection(self) -> http.client.HTTPConnection:
        address = ("127.0.0.1", self._endpoint.port)
        source = (self._source_address, 0)
        if self._endpoint.tls is None:
            return http.client.HTTPConnection(*address, timeout=_TIMEOUT_S, source_address=source)
        return http.client.HTTPSConnection(
            *address, timeout=_TIMEOUT_S, source_address=source, context=self._endpoint.tls
        )


class Attempt:
    """Sends a request on a connection; after a failure, it knows how far the request came."""

    def __init__(self, connection: http.client.HTTPConnection, *, is_reused: bool) -> None:
        self._connection = connection
        self._is_reused = is_reused
        self._is_sent = False
        self._has_response = False
        self.sent_at = time.monotonic()

    @property
    def duration_s(self) -> float:
        return time.monotonic() - self.sent_at

    def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send the request once; return the response and its body."""
        self._connection.request(method, path, body, headers)
        self._is_sent = True
        response = self._connection.getresponse()
        self._has_response = True
        return response, response.read()

    def cannot_be_executed(self, error: Exception) -> bool:
        """Return whether the connection was closed before the server had the whole request.

        The client cannot know this of a request that it has sent completely. It assumes it if the
        connection was idle before, and was closed at once and without a byte of a response.
        """
        if not isinstance(error, _CLOSED):
            return False
        if not self._is_sent:
            return True
        return self._is_reused and not self._has_response and self.duration_s < _IDLE_CLOSE_S
