"""Starts and stops servers, and requests /readyz."""

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from bench.machine import process_tree
from livebackend.config.settings import Settings
from tests.support.application import PRODUCTION_INI
from tests.support.servers import Server, free_port, production_overrides, start_server
from tests.support.waiting import wait_until

WORKER_COUNT = 2
_READY_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 30


def settings(database_url: str) -> dict[str, str]:
    """Return the settings of the servers: hardened mode, and limits that the load cannot reach."""
    high_limits = {
        name: "1000000 per hour" for name in Settings.fields_by_name() if name.startswith("limits.")
    }
    return {
        **production_overrides(database_url),
        **high_limits,
        "server.workers": str(WORKER_COUNT),
        "metrics.address": f"127.0.0.1:{free_port()}",
        # The disk of a test machine can have less free space than the default requires.
        "pictures.min_free_disk_bytes": "0",
    }


def start_ready(
    folder: Path,
    server_settings: Mapping[str, str],
    *,
    ini: Path = PRODUCTION_INI,
    variables: Mapping[str, str] = MappingProxyType({}),
    port: int | None = None,
    stderr: int | None = None,
) -> Server:
    """Start a server, and wait until all its workers are ready."""
    server, _ = start_server(
        port or free_port(), ini, folder, server_settings, variables=variables, stderr=stderr
    )
    try:
        wait_until_ready(server)
    except BaseException:
        stop(server)
        raise
    return server


def wait_until_ready(server: Server) -> None:
    """Wait until all workers exist, and /readyz is 200 several times in a row."""

    def is_ready() -> bool:
        assert server.process.poll() is None, f"the server ended: {server.log.read_text()[-2000:]}"
        return len(server.workers) >= WORKER_COUNT and all(
            ready_status(server.port) == 200 for _ in range(2 * WORKER_COUNT)
        )

    wait_until(is_ready, _READY_TIMEOUT_S, f"the server to be ready, see {server.log}")


def ready_status(port: int, timeout_s: float = 3.0) -> int:
    """Return the status of /readyz, or 0 without a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return response.status
    finally:
        connection.close()


def stop(server: Server) -> None:
    """Stop a server; kill it and its processes if it does not end."""
    pids = process_tree(server.pid)
    server.process.terminate()
    try:
        server.process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait(_STOP_TIMEOUT_S)
    kill_all(pids[1:])


def kill_all(pids: list[int]) -> None:
    """Kill processes of a server that have outlived it for 5 s."""
    deadline = time.monotonic() + 5
    while any(map(_is_python, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in filter(_is_python, pids):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_python(pid: int) -> bool:
    """Return whether the process still runs; its id can belong to another program by now."""
    try:
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
