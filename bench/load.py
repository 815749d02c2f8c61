"""Load: `wrk` for calls that may be repeated, the API's own client for calls in their order."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livebackend_client import ApiError, Client

_LUA = Path(__file__).with_name("calls.lua")


@dataclass(frozen=True)
class Call:
    """A method of the client, as somebody calls it: `Call(Client.add, token, {"userId": …})`."""

    method: Callable[..., object]
    token: str | None = None
    params: dict[str, Any] = field(default_factory=dict)

    def by(self, client: Client) -> object:
        client.token = self.token
        return self.method(client, **self.params)


@dataclass
class Load:
    """What became of the calls: times in milliseconds; failed is whatever was not answered 0000."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    # The first failure, if it is known.
    said: str = ""
    # The messages of those that were answered, if they were kept.
    messages: list[object] = field(default_factory=list)

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


class _Tally:
    """What several clients have found, together."""

    def __init__(self) -> None:
        self.times_ms: list[float] = []
        self.failures: list[str] = []
        self.messages: list[object] = []

    def call(self, client: Client, call: Call) -> None:
        began = time.perf_counter()
        try:
            message = call.by(client)
        except ApiError as error:
            self.failures.append(repr(error))
        else:
            self.messages.append(message)
        self.times_ms.append(1000 * (time.perf_counter() - began))


def in_turn(
    port: int,
    turns: Iterable[Sequence[Call]],
    *,
    seconds: float,
    clients: int,
) -> Load:
    """Makes the calls of each turn one after the other; as many turns at a time as clients."""
    remaining, lock, tally = iter(turns), threading.Lock(), _Tally()
    began = time.monotonic()

    def work() -> None:
        client = Client(f"http://127.0.0.1:{port}", timeout_s=60, tries=1)
        # Nothing of this machine's settings, which are looked for at each call.
        client.session.trust_env = False
        while time.monotonic() < began + seconds:
            with lock:
                turn = next(remaining, None)
            if turn is None:
                break
            for call in turn:
                tally.call(client, call)
        client.session.close()

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
        tally.messages,
    )
