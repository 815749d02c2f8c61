"""HTTP client of the load: it knows whether a request without a response was sent."""

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

    `sent_at` is a time of time.monotonic(). `stale_count` counts the connections that the server
    had closed before it received the request: the client sent it again.
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
        stale_count = 0
        while True:
            is_reused = self._is_open()
            try:
                connection = self._connect()
            except OSError as error:
                return Exchange(0, {}, b"", time.monotonic(), 0, stale_count, f"connect: {error}")
            sent_at = time.monotonic()
            try:
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                duration_s = time.monotonic() - sent_at
                self.close()
                if is_reused and isinstance(
                    error, http.client.RemoteDisconnected | ConnectionError
                ):
                    stale_count += 1
                    continue
                return Exchange(0, {}, b"", sent_at, duration_s, stale_count, repr(error))
            duration_s = time.monotonic() - sent_at
            if response.will_close or self._endpoint.tls is None:
                self.close()
            lower_headers = {name.lower(): value for name, value in response.getheaders()}
            return Exchange(
                response.status, lower_headers, content, sent_at, duration_s, stale_count
            )

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
            connection = self._new_connection()
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

    def _new_connection(self) -> http.client.HTTPConnection:
        address = ("127.0.0.1", self._endpoint.port)
        source = (self._source_address, 0)
        if self._endpoint.tls is None:
            return http.client.HTTPConnection(*address, timeout=_TIMEOUT_S, source_address=source)
        return http.client.HTTPSConnection(
            *address, timeout=_TIMEOUT_S, source_address=source, context=self._endpoint.tls
        )
