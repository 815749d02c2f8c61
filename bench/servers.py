"""Start the measured servers as separate processes, configured as in production."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
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
    """A measured server; `root_pids` are its processes without their descendants."""

    name: str
    port: int
    root_pids: tuple[int, ...]

    @property
    def pids(self) -> list[int]:
        return process_tree(*self.root_pids)


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


def earlier_version() -> Path | None:
    """Return the checkout that BENCH_BEFORE names, or None."""
    if not (name := os.environ.get("BENCH_BEFORE")):
        return None
    folder = Path(name).resolve()
    if not (folder / "livebackend" / "__init__.py").exists():
        raise SystemExit(f"BENCH_BEFORE: {folder} is not a checkout of livebackend")
    return folder


def _command(name: str, port: int, workers: int, checkout: Path) -> list[str]:
    ini = str(checkout / "production.ini")
    serve = ["livebackend.cli", "serve", ini, f"--port={port}"]
    commands = {
        "livebackend": serve,
        "before": serve,
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
    names: Iterable[str], variables: Mapping[str, str], folder: Path, *, workers: int
) -> Iterator[dict[str, Server]]:
    """Yield the servers by name once they accept connections; stop them at the end.

    The server "before" runs the code of the checkout that BENCH_BEFORE names.
    """
    log = folder / "servers.log"
    processes: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
    try:
        for name in names:
            port, checkout = free_port(), earlier_version() if name == "before" else ROOT
            assert checkout
            with log.open("ab") as output:
                process = subprocess.Popen(
                    _command(name, port, workers, checkout),
                    env={**variables, "PYTHONPATH": str(checkout)},
                    cwd=folder,
                    stdout=output,
                    stderr=output,
                )
            processes[name] = port, process
        for name, (port, process) in processes.items():
            if not wait_for_port(port, process, timeout_s=60):
                raise SystemExit(f"{name} did not start:\n{log.read_text()}")
        yield {
            name: Server(name, port, (process.pid,)) for name, (port, process) in processes.items()
        }
    finally:
        stop(*(process for _, process in processes.values()))


def wait_for_port(port: int, process: subprocess.Popen[bytes] | None, *, timeout_s: float) -> bool:
    """Wait until a server accepts connections; return False if it does not, or has ended."""
    deadline = time.monotonic() + timeout_s
    while not (process and process.poll() is not None) and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def stop(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
