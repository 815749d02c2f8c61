"""Start the measured servers as separate processes, configured as in production."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import process_tree
from livebackend.config.settings import Settings, environment_variable

ROOT = Path(__file__).parent.parent
SECRET = "a-secret-of-the-bench-that-is-long-enough"
PEPPER = "a-pepper-of-the-bench-that-is-long-enough"


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def pids(self) -> list[int]:
        return process_tree(self.process.pid)


def environment(database_url: str, folder: Path) -> dict[str, str]:
    """Return the environment of the servers: hardened mode with development gateways."""
    settings = {
        "DATABASE_URL": database_url,
        "DATA_DIR": str(folder),
        "SECRETS": SECRET,
        "PASSWORDS_PEPPER": PEPPER,
        "HTTP_PUBLIC_URL": "http://127.0.0.1",
        "GATEWAYS_ALLOW_DEVELOPMENT": "true",
        "SMS_GATEWAY": "livebackend.development.sms.DevelopmentSms",
        "STREAMS_GATEWAY": "livebackend.development.streams.DevelopmentStreams",
        "COINS_ALLOW_FREE_REFILL": "true",
        "COINS_REFILL": "direct",
    }
    # The servers count the requests, but these rate limits are too high to be reached.
    rate_limits = {
        environment_variable(name): "1000000 per hour"
        for name in Settings.fields_by_name()
        if name.startswith("limits.")
    }
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("LIVEBACKEND")
    }
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        **{f"LIVEBACKEND_{name}": value for name, value in settings.items()},
        **rate_limits,
    }


def _command(name: str, port: int, workers: int) -> list[str]:
    ini = str(ROOT / "production.ini")
    commands = {
        "livebackend": ["livebackend.cli", "serve", ini, f"--port={port}"],
        # Granian starts worker processes with 64 threads each, as `livebackend serve` does.
        "baseline": [
            *("granian", "--interface=wsgi", "--http=1", "--no-ws", "--log-level=error"),
            *(f"--workers={workers}", "--blocking-threads=64", "--backpressure=512"),
            *(f"--port={port}", "bench.baseline_wsgi:application"),
        ],
        "FastAPI": [
            *("uvicorn", "--loop=uvloop", "--http=httptools", "--no-access-log"),
            *("--log-level=error", f"--workers={workers}", f"--port={port}"),
            "bench.baseline_fastapi:app",
        ],
    }
    return [sys.executable, "-m", *commands[name]]


@contextmanager
def running_servers(
    names: list[str], variables: Mapping[str, str], folder: Path, *, workers: int
) -> Iterator[dict[str, Server]]:
    """Yield the servers by name once they accept connections; stop them at the end."""
    servers: dict[str, Server] = {}
    with (folder / "servers.log").open("ab") as log:
        try:
            for name in names:
                port = _free_port()
                process = subprocess.Popen(
                    _command(name, port, workers), env=variables, cwd=folder, stdout=log, stderr=log
                )
                servers[name] = Server(name, port, process)
            for server in servers.values():
                _wait_for(server, folder / "servers.log")
            yield servers
        finally:
            for server in servers.values():
                server.process.send_signal(signal.SIGTERM)
            for server in servers.values():
                try:
                    server.process.wait(20)
                except subprocess.TimeoutExpired:
                    server.process.kill()


def _wait_for(server: Server, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", server.port)).close()
        except OSError:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{server.name} did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
