"""The environment of the faults: PostgreSQL, servers in hardened mode, and the users."""

import http.client
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench.machine import process_tree
from livebackend.config.settings import Settings
from livebackend.database.engine import Database
from tests.chaos.users import Users
from tests.support.application import PRODUCTION_INI
from tests.support.postgres_node import Node, create_data_directory, socket_directory
from tests.support.servers import (
    HARDENED_SECRET,
    Server,
    free_port,
    production_overrides,
    start_server,
)
from tests.support.waiting import wait_until

USER_COUNT = 100
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


@dataclass
class Site:
    """PostgreSQL, a server that most faults share, and the users of the load."""

    folder: Path
    postgres: Node
    users: Users
    _server: Server | None = None

    @property
    def server(self) -> Server:
        """The shared server; it is started again if a fault has ended it."""
        if self._server is None or self._server.process.poll() is not None:
            self._server = self.start()
        return self._server

    def start(
        self,
        *,
        changed_settings: Mapping[str, str] = MappingProxyType({}),
        variables: Mapping[str, str] = MappingProxyType({}),
        port: int | None = None,
        stderr: int | None = None,
    ) -> Server:
        """Start a server, and wait until all its workers are ready."""
        return start_ready(
            self.folder,
            settings(self.postgres.url) | dict(changed_settings),
            variables=variables,
            port=port,
            stderr=stderr,
        )

    def restart(self, port: int) -> None:
        """Replace the shared server, which has ended, by a new one on its port."""
        self._server = self.start(port=port)

    def end_of_server(self) -> str:
        """Return the exit code and the last log records of an ended shared server, or ""."""
        if self._server is None or self._server.process.poll() is None:
            return ""
        records = self._server.log.read_text(errors="replace").splitlines()
        last_records = "\n      ".join(r[:300] for r in records if "livebackend.access" not in r)
        return f"the server ended with {self._server.process.returncode}:{last_records[-1500:]}"

    def recover(self) -> None:
        """Prepare the next row after a row that was not completed."""
        self.stop_server()
        if not self.postgres.is_running:
            self.postgres.kill()
            self.postgres.start()

    @contextmanager
    def own_server(
        self,
        changed_settings: Mapping[str, str] = MappingProxyType({}),
        *,
        variables: Mapping[str, str] = MappingProxyType({}),
        stderr: int | None = None,
    ) -> Iterator[Server]:
        """Run a server for one fault. The shared server stops first, to save memory and CPU."""
        self.stop_server()
        server = self.start(changed_settings=changed_settings, variables=variables, stderr=stderr)
        try:
            yield server
        finally:
            stop(server)

    def stop_server(self) -> None:
        if self._server:
            stop(self._server)
        self._server = None


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


@contextmanager
def running_site() -> Iterator[Site]:
    """Run PostgreSQL with the users of the load; stop all processes at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="livebackend chaos ") as name,
        socket_directory() as socket_root,
    ):
        folder = Path(name)
        folder.chmod(0o755)  # nginx's workers run as another user
        with running_postgres(folder, socket_root) as postgres:
            site = Site(folder, postgres, create_users(postgres.url))
            try:
                yield site
            finally:
                site.stop_server()


@contextmanager
def running_postgres(
    folder: Path, socket_root: Path, *, with_tables: bool = True
) -> Iterator[Node]:
    """Run a durable PostgreSQL with a database below `folder`, on a TCP port."""
    account = create_data_directory(folder / "postgres", migrated=with_tables)
    node = Node("postgres", folder, socket_root, account, durable=True, tcp_port=free_port())
    try:
        node.start()
        yield node
    finally:
        node.kill()


def create_users(url: str) -> Users:
    database = Database(url)
    try:
        return Users(
            database,
            count=USER_COUNT,
            secret=HARDENED_SECRET,
            pepper=production_overrides(url)["passwords.pepper"],
        )
    finally:
        database.close()
