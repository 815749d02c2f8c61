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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "LIVEBACKEND_VAR_DIR": str(folder),
        "LIVEBACKEND_PASSWORDS_COST": "4",
        **{f"LIVEBACKEND_{name.upper().replace('.', '_')}": changed[name] for name in changed},
    }
    path = folder / f"server-{port}.log"
    command = [sys.executable, "-m", "pyramid.scripts.pserve", str(ini), f"port={port}"]
    with path.open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    server = Server(port, path, process.pid)
    try:
        for _ in range(600):
            try:
                server.connect().close()
                break
            except OSError:
                assert process.poll() is None, server.log.read_text()
                time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)
    assert leaks(server.log.read_text(), set()) == []


def hardened(database_url: str) -> dict[str, str]:
    """What production.ini needs to run here, and no more."""
    return {
        "database.url": database_url,
        "secrets": "a-secret-of-the-tests-that-is-long-enough",
        "passwords.pepper": "a-pepper-of-the-tests-that-is-long-enough",
        "gateways.embedded_is_meant": "true",
        "sms.gateway": "livebackend.gateways.sms.EmbeddedSms",
        "streams.gateway": "livebackend.gateways.streams.EmbeddedStreams",
        "coins.direct_refill_is_meant": "true",
        "coins.refill": "direct",
    }
