"""Starts server processes, for tests that need real sockets or several workers."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.support.secret_scanner import find_leaks

# Signing secret of servers with `hardened_settings`.
HARDENED_SECRET = "a-secret-of-the-tests-that-is-long-enough"


@dataclass(frozen=True)
class Server:
    """A server process, its port and its log file."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def workers(self) -> set[int]:
        """Process ids of the workers."""
        children_file = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        child_pids = map(int, children_file.read_text().split())
        return {pid for pid in child_pids if _is_worker(pid)}

    def kill(self) -> None:
        """Kill the server and its workers with SIGKILL, as in a crash of the machine.

        Returns when all have ended: a worker that has not ended yet still accepts connections.
        """
        with ExitStack() as stack:
            descriptors = []
            for pid in [self.pid, *self.workers]:
                with suppress(ProcessLookupError):
                    descriptors.append(os.pidfd_open(pid))
                    stack.callback(os.close, descriptors[-1])
            for descriptor in descriptors:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            for descriptor in descriptors:
                ended, _, _ = select.select([descriptor], [], [], 20)
                assert ended, "a process did not end within 20 s after SIGKILL"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def read_log(self) -> str:
        """Return the log, with the records of all requests that have ended.

        A thread of the server writes the records, shortly after they are created.
        """
        text = self.log.read_text()
        while True:
            time.sleep(0.2)
            previous_text, text = text, self.log.read_text()
            if text == previous_text:
                return text


def _is_worker(pid: int) -> bool:
    # A child process that has just been started or has ended is no worker.
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the process has ended
        return False


def listening_pids(address: str) -> list[int]:
    """Return the processes that listen on an address."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "0A"}
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = {str(file.readlink()) for file in (process / "fd").iterdir()}
        except OSError:
            continue
        if links & inodes:
            pids.append(int(process.name))
    return pids


@contextmanager
def running_server(
    ini: Path, folder: Path, changed_settings: Mapping[str, str], *, pserve: bool = False
) -> Iterator[Server]:
    """Run `livebackend serve`, or `pserve`, with `folder` as its data directory.

    The server receives the settings in `changed_settings` as environment variables.
    """
    server, process = start_server(free_port(), ini, folder, changed_settings, pserve=pserve)
    try:
        assert wait_until_up(server, process), server.log.read_text()
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
    leaks = find_leaks(server.log.read_text(), set())
    assert leaks == [], leaks[:3]


def free_port() -> int:
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port: int = free_socket.getsockname()[1]
        return port


def start_server(
    port: int,
    ini: Path,
    folder: Path,
    changed_settings: Mapping[str, str],
    *,
    pserve: bool = False,
    variables: Mapping[str, str] = MappingProxyType({}),
    stderr: int | None = None,
) -> tuple[Server, subprocess.Popen[bytes]]:
    """Start a server without waiting until it accepts connections.

    It gets the environment `variables` too. `stderr` replaces the log file, as in subprocess.Popen.
    """
    # bcrypt's lowest cost saves time. Parallel servers cannot all listen on one port for metrics,
    # or for the event server of development.ini.
    settings = {
        "passwords.cost": "4",
        "metrics.address": "",
        **({"events.gateway": ""} if ini.name == "development.ini" else {}),
        "data.dir": str(folder),
        **changed_settings,
    }
    environment = (
        os.environ
        | {f"LIVEBACKEND_{name.upper().replace('.', '_')}": settings[name] for name in settings}
        | dict(variables)
    )
    serve_command = ["livebackend.cli", "serve", str(ini), f"--port={port}"]
    command = ["pyramid.scripts.pserve", str(ini), f"port={port}"] if pserve else serve_command
    log_path = folder / f"server-{port}.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log if stderr is None else stderr,
        )
    return Server(port, log_path, process), process


def wait_until_up(server: Server, process: subprocess.Popen[bytes]) -> bool:
    """Wait up to 30 s until the server accepts connections; return whether it does."""
    for _ in range(600):
        try:
            server.connect().close()
        except OSError:
            if process.poll() is not None:
                return False
            time.sleep(0.05)
        else:
            return True
    return False


def count_listening_sockets(server: Server) -> int:
    """Return the number of sockets that listen on the server's port, one per worker."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{server.port:04X}") and row[3] == "0A" for row in rows)


def production_overrides(database_url: str) -> dict[str, str]:
    """Return the settings that production.ini needs to run in tests."""
    return {
        "database.url": database_url,
        "secrets": HARDENED_SECRET,
        "passwords.pepper": "a-pepper-of-the-tests-that-is-long-enough",
        "gateways.allow_development": "true",
        "sms.gateway": "livebackend.development.sms.DevelopmentSms",
        "streams.gateway": "livebackend.development.streams.DevelopmentStreams",
        "coins.allow_free_refill": "true",
        "coins.refill": "direct",
    }


def hardened_settings(database_url: str) -> dict[str, str]:
    """Return `production_overrides`, with housekeeping disabled."""
    return {**production_overrides(database_url), "streams.check_interval_s": "0"}
