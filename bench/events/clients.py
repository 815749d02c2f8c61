"""Subscribers: starts event_clients.c, and reads what its clients received.

A client in Python would need more CPU time for an event than the engine does.
"""

import json
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

_SOURCE = Path(__file__).with_name("event_clients.c")
# Time limits for the connections of all clients, and for the end of the program.
_READY_TIMEOUT_S = 90
_END_TIMEOUT_S = 30


class Target(NamedTuple):
    """The address of a client, and the path of its event stream."""

    address: str
    path: str


class Received(NamedTuple):
    """An event that a client received and did not have yet."""

    client: int
    # A value of time.monotonic_ns().
    time_ns: int
    event: Any


@dataclass
class EventClients:
    """The running program; after the `with` block, the events and the statistics."""

    process: subprocess.Popen[str]
    events_file: Path
    events: list[Received] = field(default_factory=list)
    statistics: dict[str, int] = field(default_factory=dict)

    def start_breaks(self) -> None:
        """Let each client break off and resume at random times."""
        self._send("break")

    def wait_for(self, count: int, timeout_s: float) -> None:
        """Wait until the clients have this number of events, or until the time is over."""
        deadline = time.monotonic() + timeout_s
        while self.count() < count and time.monotonic() < deadline:
            time.sleep(0.2)

    def count(self) -> int:
        """Return the number of events that the clients have, without repeated ones."""
        self._send("count")
        assert self.process.stdout
        return int(self.process.stdout.readline())

    @property
    def cpu_us_per_event(self) -> float:
        """The CPU time of the program for an event, from which its limit follows."""
        return 1000 * self.statistics["cpu_ms"] / max(1, self.statistics["received"])

    def events_by_client(self) -> dict[int, list[Received]]:
        by_client: dict[int, list[Received]] = {}
        for received in self.events:
            by_client.setdefault(received.client, []).append(received)
        return by_client

    def _send(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()


@cache
def compiled_program(folder: Path) -> Path:
    """Compile the program; raises SystemExit without a C compiler or OpenSSL."""
    program = folder / "event_clients"
    if shutil.which("cc") is None:
        raise SystemExit("make bench-events requires a C compiler as cc")
    command = ["cc", "-O2", "-o", str(program), str(_SOURCE), "-lssl", "-lcrypto"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise SystemExit(f"make bench-events requires libssl-dev:\n{completed.stderr}")
    return program


@contextmanager
def running_clients(
    folder: Path,
    targets: Sequence[Target],
    port: int,
    *,
    tls: bool,
    breaks: int = 0,
    seconds: int = 1,
) -> Iterator[EventClients]:
    """Open a stream for each target at a port of 127.0.0.1; yield when all are open.

    After `start_breaks`, each client breaks off `breaks` times in `seconds`.
    """
    targets_file, events_file = folder / "targets", folder / "events"
    targets_file.write_text("".join(f"{target.address} {target.path}\n" for target in targets))
    command = [str(compiled_program(folder)), str(targets_file), str(events_file), str(port)]
    command += ["tls" if tls else "plain", str(breaks), str(seconds)]
    with subprocess.Popen(
        ["timeout", "900", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        clients = EventClients(process, events_file)
        try:
            _wait_until_ready(process)
            yield clients
            output, _ = process.communicate(timeout=_END_TIMEOUT_S)
        except BaseException:
            process.terminate()
            raise
    clients.statistics = json.loads(output.splitlines()[-1])
    with events_file.open("rb") as lines:
        for line in lines:
            client, time_ns, event = line.split(b" ", 2)
            clients.events.append(Received(int(client), int(time_ns), orjson.loads(event)))


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    if not select.select([process.stdout], [], [], _READY_TIMEOUT_S)[0]:
        raise TimeoutError(f"the event streams were not open after {_READY_TIMEOUT_S} s")
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("the program with the clients has ended")
