"""Servers in processes of their own, for what only a real one shows."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.scanner import leaks


@dataclass(frozen=True)
class Server:
    """A started server: where it listens, what it has logged, and its process."""

    port: int
    log: Path
    pid: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@contextmanager
def serving(ini: Path, folder: Path, changed: Mapping[str, str]) -> Iterator[Server]:
    """`pserve` with these settings changed by the environment, its files in `folder`."""
    server, process = launch(free_port(), ini, folder, changed)
    try:
        assert is_up(server, process), server.log.read_text()
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)
    assert leaks(server.log.read_text(), set()) == []


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def launch(
    port: int, ini: Path, folder: Path, changed: Mapping[str, str]
) -> tuple[Server, subprocess.Popen[bytes]]:
    """Starts `pserve`; it is not up yet."""
    environment = {
        **os.environ,
        "LIVEBACKEND_VAR_DIR": str(folder),
        "LIVEBACKEND_PASSWORDS_COST": "4",
        **{f"LIVEBACKEND_{name.upper().replace('.', '_')}": changed[name] for name in changed},
    }
    path = folder / f"server-{port}.log"
    command = [sys.executable, "-m", "pyramid.scripts.pserve", str(ini), f"port={port}"]
    with path.open("ab") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    return Server(port, path, process.pid), process


def is_up(server: Server, process: subprocess.Popen[bytes]) -> bool:
    """Waits until the server takes connections; False if it has ended before."""
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


def hardened(database_url: str) -> dict[str, str]:
    """What production.ini needs to run here, and no more."""
    return {
        "database.url": database_url,
        "secrets": "a-secret-of-the-tests-that-is-long-enough",
        "passwords.pepper": "a-pepper-of-the-tests-that-is-long-enough",
        "gateways.embedded_is_meant": "true",
        "sms.gateway": "livebackend.gateways.sms.EmbeddedSms",
        "streams.gateway": "livebackend.gateways.streams.EmbeddedStreams",
        # Nothing changes but by a test's own calls.
        "streams.sweep_s": "0",
        "coins.direct_refill_is_meant": "true",
        "coins.refill": "direct",
    }
