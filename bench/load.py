"""Load generators: wrk for repeatable requests, a Python client for ordered calls."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from livebackend_client import ApiError, Client

_WRK_SCRIPT = Path(__file__).with_name("calls.lua")


@dataclass(frozen=True)
class Call:
    """A call of a client method, such as `Call(Client.add, token, {"user_id": …})`."""

    method: Callable[..., object]
    token: str | None = None
    params: dict[str, Any] = field(default_factory=dict)

    def send(self, client: Client) -> object:
        client.token = self.token
        return self.method(client, **self.params)


@dataclass
class LoadResult:
    """Measurements of a load; `failed` counts all requests without the expected result code."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    # Text of the first error; empty after a load by wrk, which does not report error texts.
    first_error: str = ""
    # The `message` of each successful response; empty after a load by wrk, which reports none.
    messages: list[object] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def run_wrk(
    port: int,
    path: str,
    bodies: Sequence[str],
    *,
    folder: Path,
    seconds: float,
    connections: int,
    expected_code: str = "0000",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> LoadResult:
    """Post the bodies in a loop with wrk; other result codes than the expected one are failures."""
    bodies_file = folder / f"bodies-{threading.get_ident()}"
    bodies_file.write_text("\n".join(bodies))
    command = ["wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds:.0f}s"]
    command += [f"--header={name}: {value}" for name, value in headers.items()]
    command += ["--timeout=10s", f"--script={_WRK_SCRIPT}", f"http://127.0.0.1:{port}{path}"]
    completed = subprocess.run(
        command,
        env={**os.environ, "BODIES": str(bodies_file), "EXPECTED_CODE": expected_code},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    summary = json.loads(completed.stdout.strip().splitlines()[-1])
    return LoadResult(
        summary["requests"],
        summary["seconds"],
        summary["p50_ms"],
        summary["p99_ms"],
        summary["error_responses"] + summary["connection_errors"],
    )


class _Results:
    """Durations, errors and messages of the calls of several clients."""

    def __init__(self) -> None:
        self.durations_ms: list[float] = []
        self.failures: list[str] = []
        self.messages: list[object] = []

    def call(self, client: Client, call: Call) -> None:
        started = time.perf_counter()
        try:
            message = call.send(client)
        except ApiError as error:
            self.failures.append(repr(error))
        else:
            self.messages.append(message)
        self.durations_ms.append(1000 * (time.perf_counter() - started))


def run_in_order(
    port: int,
    sequences: Iterable[Sequence[Call]],
    *,
    seconds: float,
    clients: int,
    headers: Mapping[str, str] | None = None,
) -> LoadResult:
    """Send the calls of each sequence in order; a client runs one sequence at a time.

    `headers` are sent with each call, as a proxy sends them.
    """
    remaining_sequences, lock, results = iter(sequences), threading.Lock(), _Results()
    started = time.monotonic()

    def send_sequences() -> None:
        with httpx.Client(headers=headers, verify=False) as http_client:
            client = Client(
                f"http://127.0.0.1:{port}", timeout_s=60, max_attempts=1, http_client=http_client
            )
            while time.monotonic() < started + seconds:
                with lock:
                    sequence = next(remaining_sequences, None)
                if sequence is None:
                    break
                for call in sequence:
                    results.call(client, call)

    threads = [threading.Thread(target=send_sequences) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sorted_ms = sorted(results.durations_ms) or [0.0]
    return LoadResult(
        len(results.durations_ms),
        time.monotonic() - started,
        sorted_ms[len(sorted_ms) // 2],
        sorted_ms[len(sorted_ms) * 99 // 100],
        len(results.failures),
        next(iter(results.failures), ""),
        results.messages,
    )
