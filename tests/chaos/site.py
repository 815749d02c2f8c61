"""The environment of the faults: PostgreSQL, servers in hardened mode, and the users."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from livebackend.database.engine import Database
from tests.chaos.server import settings, start_ready, stop
from tests.chaos.users import Users
from tests.support.postgres_node import Node, create_data_directory, socket_directory
from tests.support.servers import HARDENED_SECRET, Server, free_port, production_overrides

USER_COUNT = 100


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
def running_postgres(folder: Path, socket_root: Path, *, migrated: bool = True) -> Iterator[Node]:
    """Run a durable PostgreSQL with a database below `folder`, on a TCP port."""
    account = create_data_directory(folder / "postgres", migrated=migrated)
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
