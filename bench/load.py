"""Load: `wrk` for calls that may be repeated, our own threads for calls in their order."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FORM = "application/x-www-form-urlencoded"

_LUA = Path(__file__).with_name("calls.lua")


@dataclass(frozen=True)
class Call:
    path: str
    body: str | bytes
    content_type: str = FORM


@dataclass
class Load:
    """What became of the calls: times in milliseconds; failed is whatever was not answered 0000."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    # The first reply that was no success.
    said: str = ""
    # What was answered to each call that was, if it was kept.
    bodies: list[tuple[Call, bytes]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def by_wrk(
    port: int, path: str, bodies: Sequence[str], *, folder: Path, seconds: float, connections: int
) -> Load:
    """Posts the bodies over and over."""
    file = folder / "bodies"
    file.write_text("\n".join(bodies))
    command = ["wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds:.0f}s"]
    command += ["--timeout=10s", f"--script={_LUA}", f"http://127.0.0.1:{port}{path}"]
    done = subprocess.run(
        command,
        env={**os.environ, "BODIES": str(file)},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return Load(
        said["requests"],
        said["seconds"],
        said["p50_ms"],
        said["p99_ms"],
        said["refused"] + said["broken"],
    )


@dataclass
class Client:
    """One connection, kept open."""

    port: int
    timeout_s: float = 60
    _socket: socket.socket | None = field(default=None, repr=False)

    def post(self, call: Call) -> tuple[int, bytes]:
        """The status and the body of the reply."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self.port), self.timeout_s)
        body = call.body.encode() if isinstance(call.body, str) else call.body
        self._socket.sendall(
            f"POST {call.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {call.content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        received = b""
        while True:
            head, found, body = received.partition(b"\r\n\r\n")
            if found:
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                if len(body) >= int(length):
                    return int(head.split(None, 2)[1]), body
            more = self._socket.recv(65_536)
            if not more:
                raise ConnectionError("the server has closed the connection")
            received += more

    def close(self) -> None:
        """Begins anew with the next call."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Tally:
    """What several clients have found, together."""

    def __init__(self) -> None:
        self.times_ms: list[float] = []
        self.failures: list[str] = []
        self.bodies: list[tuple[Call, bytes]] = []

    def call(self, client: Client, call: Call) -> None:
        began = time.perf_counter()
        try:
            status, body = client.post(call)
        except OSError as error:
            self.failures.append(repr(error))
            client.close()
            return
        self.times_ms.append(1000 * (time.perf_counter() - began))
        self.bodies.append((call, body))
        if status != 200 or b'"0000"' not in body:
            self.failures.append(f"{status} {body[:200]!r}")


def in_turn(
    port: int,
    turns: Iterable[Sequence[Call]],
    *,
    seconds: float,
    clients: int,
    timeout_s: float = 60,
) -> Load:
    """Makes the calls of each turn one after the other; as many turns at a time as clients."""
    remaining, lock, tally = iter(turns), threading.Lock(), _Tally()
    began = time.monotonic()

    def work() -> None:
        client = Client(port, timeout_s)
        while time.monotonic() < began + seconds:
            with lock:
                turn = next(remaining, None)
            if turn is None:
                break
            for call in turn:
                tally.call(client, call)
        client.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(tally.times_ms) or [0.0]
    return Load(
        len(tally.times_ms),
        time.monotonic() - began,
        times[len(times) // 2],
        times[len(times) * 99 // 100],
        len(tally.failures),
        next(iter(tally.failures), ""),
        tally.bodies,
    )
