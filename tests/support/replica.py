"""A PostgreSQL primary with a synchronous standby, for the tests of replication."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import psycopg2

from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import (
    DATABASE,
    PORT,
    USER,
    EmbeddedPostgres,
    _Account,
    _account,
    _binaries,
    _spawn,
)

Result = TypeVar("Result")

WAIT_S = 20
# A backend whose COMMIT waits for the standby.
_WAITING = (
    "SELECT pid, query_start FROM pg_stat_activity"
    " WHERE wait_event = 'SyncRep' AND query_start > %s::timestamptz ORDER BY query_start"
)


class CommitWait(NamedTuple):
    """A backend whose COMMIT waits for the standby, and when that COMMIT started."""

    pid: int
    since: Any


class Node:
    """A PostgreSQL server with a data directory and a Unix socket of its own."""

    def __init__(self, name: str, folder: Path, sockets: Path, account: _Account) -> None:
        self.name = name
        self.data = folder / name
        self.socket_folder = sockets / name
        self.socket_folder.mkdir(mode=0o700)
        account.own(self.socket_folder)
        self._account = account
        self._log = folder / f"{name}.log"
        self._process: Any = None
        self._conninfo = ""

    def start(self) -> None:
        """Start the server; it accepts queries when this returns."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "port": str(PORT),
            "max_connections": "100",
            "wal_retrieve_retry_interval": "100ms",
            # The tests kill processes, not the machine.
            "fsync": "off",
            # The standby's application_name, by which synchronous_standby_names selects it.
            "cluster_name": self.name,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        command = [*self._account.become, str(_binaries() / "postgres"), "-D", str(self.data)]
        self._process = _spawn([*command, *options], self._log)
        wait_for(self._accepts_queries, f"{self.name} to start, see {self._log}")

    def kill(self) -> None:
        """Kill the server with SIGKILL; its other processes exit by themselves."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT_S)
            self._process = None

    def query(self, sql: str, *values: object) -> list[Any]:
        """Execute a statement on a new connection; returns its rows."""
        connection = psycopg2.connect(
            host=str(self.socket_folder),
            port=PORT,
            user=USER,
            dbname=DATABASE,
            connect_timeout=5,
            options="-c statement_timeout=20s",
        )
        connection.autocommit = True
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the running server."""
        self.query(f"ALTER SYSTEM SET {name} = %s", value)
        self.query("SELECT pg_reload_conf()")

    def copy(self, primary: "Node") -> None:
        """Replace the data directory by a base backup of `primary`, as its standby."""
        if self.data.exists():
            shutil.rmtree(self.data)
        self.data.mkdir(mode=0o700)
        self._account.own(self.data)
        source = [f"--host={primary.socket_folder}", f"--port={PORT}", f"--username={USER}"]
        target = [f"--pgdata={self.data}", "--write-recovery-conf", "--checkpoint=fast"]
        slot = ["--create-slot", f"--slot={self.name}"]
        command = [str(_binaries() / "pg_basebackup"), *source, *target, *slot, "--no-sync"]
        code = _spawn([*self._account.become, *command], self._log).wait(60)
        assert code == 0, self._log.read_text()

    def disconnect(self) -> None:
        """Stop replication to this standby, as a cut network does."""
        self._conninfo = self.query("SHOW primary_conninfo")[0][0]
        self.configure("primary_conninfo", "")
        wait_for(lambda: not self._receives(), "the standby to disconnect")

    def reconnect(self) -> None:
        """Continue replication to this standby."""
        self.configure("primary_conninfo", self._conninfo)

    def promote(self) -> None:
        assert self.query("SELECT pg_promote(true, 60)") == [(True,)]

    def commit_wait(self, *, after: CommitWait | None = None) -> CommitWait | None:
        """The first COMMIT that waits for the standby and that started later than `after`."""
        rows = self.query(_WAITING, after.since if after else "-infinity")
        return CommitWait(*rows[0]) if rows else None

    def terminate(self, wait: CommitWait) -> None:
        """End the backend of a COMMIT that waits for the standby: it stays committed here."""
        assert self.query("SELECT pg_terminate_backend(%s)", wait.pid) == [(True,)]

    def cancel(self, wait: CommitWait) -> None:
        """End the wait of a COMMIT: PostgreSQL reports success, and a warning."""
        assert self.query("SELECT pg_cancel_backend(%s)", wait.pid) == [(True,)]

    def _accepts_queries(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return bool(self.query("SELECT 1"))
        except psycopg2.OperationalError:
            return False

    def _receives(self) -> bool:
        return bool(self.query("SELECT 1 FROM pg_stat_wal_receiver"))


class Cluster:
    """Two nodes: a primary, and a synchronous standby that can be promoted."""

    def __init__(self, nodes: tuple[Node, Node]) -> None:
        self.nodes = nodes
        self.primary, self.standby = nodes
        self._is_complete = False

    @property
    def url(self) -> str:
        """The address of the primary, whichever node it is."""
        hosts = "&".join(f"host={quote(str(node.socket_folder))}" for node in self.nodes)
        return f"postgresql+psycopg2://{USER}@/{DATABASE}?{hosts}&target_session_attrs=read-write"

    def restore(self) -> None:
        """Give the primary a new, connected standby, unless it still has one."""
        if self._is_complete:
            return
        self.primary.configure("synchronous_standby_names", "")
        self.standby.kill()
        self.primary.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        # Before the setting below, so that the standby does not inherit it: once promoted, its
        # commits would wait for a standby that does not exist.
        self.standby.copy(self.primary)
        self.standby.start()
        self.primary.configure("synchronous_standby_names", self.standby.name)
        wait_for(self._is_synchronous, "the standby to be synchronous")
        self._is_complete = True

    def disconnect_standby(self) -> None:
        """Stop replication: from here on, commits wait."""
        self._is_complete = False
        self.standby.disconnect()
        gone = "SELECT count(*) FROM pg_stat_replication"
        wait_for(lambda: self.primary.query(gone) == [(0,)], "the primary to notice")

    def reconnect_standby(self) -> None:
        self.standby.reconnect()
        wait_for(self._is_synchronous, "the standby to be synchronous")
        self._is_complete = True

    @contextmanager
    def disconnected_standby(self) -> Iterator[None]:
        """Disconnect the standby inside the `with` block; commits wait there."""
        self.disconnect_standby()
        try:
            yield
        finally:
            self.reconnect_standby()

    def fail_over(self) -> None:
        """Kill the primary and promote the standby."""
        self._is_complete = False
        self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def _is_synchronous(self) -> bool:
        state = "SELECT state, sync_state FROM pg_stat_replication"
        return self.primary.query(state) == [("streaming", "sync")]


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster with migrated tables; its standby starts with `restore`."""
    embedded = EmbeddedPostgres(folder / "a")
    try:
        database = Database(embedded.start())
        migrate(database)
        database.close()
    finally:
        embedded.close()
    # Not in `folder`: the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="livebackend-", dir="/tmp") as name:
        sockets = Path(name)
        sockets.chmod(0o755)
        account = _account(folder / "a", _binaries())
        nodes = Node("a", folder, sockets, account), Node("b", folder, sockets, account)
        try:
            nodes[0].start()
            yield Cluster(nodes)
        finally:
            for node in nodes:
                node.kill()


def wait_for(ask: Callable[[], Result | None], what: str, *, limit_s: float = WAIT_S) -> Result:
    """The first true result of `ask`; raises AssertionError after the time limit."""
    deadline = time.monotonic() + limit_s
    while not (result := ask()):
        assert time.monotonic() < deadline, f"no {what} within {limit_s} s"
        time.sleep(0.02)
    return result
