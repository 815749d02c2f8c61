"""Sends requests with known responses to nginx, and counts the wrong and lost ones."""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from tests.support.nginx import HOST

GIVER_PHONE, HOST_PHONE, PASSWORD = "13800000001", "13800000002", "harbour-42"


@dataclass
class Outcome:
    """The requests that were sent, and those without their one correct response."""

    sent_requests: int = 0
    sent_gifts: int = 0
    wrong_responses: list[str] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)

    def percentile_ms(self, percent: int) -> float:
        """Return the duration that `percent` percent of the requests did not exceed."""
        durations_s = sorted(self.durations_s)
        return durations_s[len(durations_s) * percent // 100] * 1000


class KnownRequests:
    """Two users, one of whom searches the other and sends gifts to them."""

    def __init__(self, address: str, certificate: Path, *, keep_alive: bool = False) -> None:
        self.outcome = Outcome()
        self._port = urlsplit(address).port
        self._tls = ssl.create_default_context(cafile=str(certificate))
        self._keep_alive = keep_alive
        self._lock = threading.Lock()
        self._token = ""

    def create_users(self) -> None:
        """Register both users; the giver buys coins for 10,000 gifts."""
        for phone in (HOST_PHONE, GIVER_PHONE):
            self._call("/register", register="1", userId=phone, password=PASSWORD)
            self._token = self._call("/log", userId=phone, password=PASSWORD)["message"]
        for _ in range(100):
            self._call("/golden", refill="1", token=self._token, money="100")

    @contextmanager
    def running(self, threads: int, pause_s: float = 0.02) -> Iterator[None]:
        """Send requests in `threads` threads during the `with` block."""
        stop_event = threading.Event()
        workers = [
            threading.Thread(target=self._send_until, args=(stop_event, pause_s))
            for _ in range(threads)
        ]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            stop_event.set()
            for worker in workers:
                worker.join(timeout=60)

    def _call(self, path: str, **form: str) -> dict[str, str]:
        with self._connection() as connection:
            _, envelope = _exchange(connection, path, form)
        assert envelope["result"] == "0000", (path, envelope)
        return envelope

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPSConnection]:
        connection = _Connection("127.0.0.1", self._port, context=self._tls, timeout=60)
        try:
            yield connection
        finally:
            connection.close()

    def _send_until(self, stop_event: threading.Event, pause_s: float) -> None:
        while not stop_event.is_set():
            with self._connection() as connection:
                while not stop_event.is_set() and not _is_closed(connection):
                    self._send_both(connection)
                    time.sleep(pause_s)
                    if not self._keep_alive:
                        break

    def _send_both(self, connection: http.client.HTTPSConnection) -> None:
        search = {"search": "1", "token": self._token, "userId": HOST_PHONE}
        gift = {"send_gift": "1", "token": self._token, "value": "1"}
        gift |= {"object": HOST_PHONE, "description": "rose"}
        for path, form in (("/friend", search), ("/golden", gift)):
            if not self._keep_alive:
                connection.close()
            start = time.monotonic()
            problem = ""
            try:
                status, envelope = _exchange(connection, path, form)
                if (status, envelope["result"]) != (200, "0000"):
                    problem = f"{path}: {status} {envelope}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"{path}: {error!r}"
                connection.close()
            with self._lock:
                self.outcome.sent_requests += 1
                self.outcome.sent_gifts += path == "/golden"
                self.outcome.durations_s.append(time.monotonic() - start)
                if problem:
                    self.outcome.wrong_responses.append(problem)


class _Connection(http.client.HTTPSConnection):
    """A connection to an address that verifies the certificate of HOST."""

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=HOST)  # type: ignore[attr-defined]


def _exchange(
    connection: http.client.HTTPSConnection, path: str, form: dict[str, str]
) -> tuple[int, dict[str, str]]:
    """Send one request; return the status and the envelope of its one response."""
    headers = {"Host": HOST, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", path, urlencode(form), headers)
    response = connection.getresponse()
    envelope = json.loads(response.read())
    return response.status, envelope | {"error": response.getheader("X-Error", "")}


def _is_closed(connection: http.client.HTTPSConnection) -> bool:
    """Return whether the server has closed the idle connection, or sent an unexpected response."""
    if connection.sock is None:
        return False  # the next request opens a new connection
    connection.sock.settimeout(0)
    try:
        connection.sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.sock.settimeout(60)
    return True
