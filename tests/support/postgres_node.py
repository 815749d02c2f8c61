"""A PostgreSQL server that a test can kill and restart at the same address."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import psycopg2

from bench.machine import process_tree
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import (
    DATABASE,
    ENVIRONMENT,
    PORT,
    USER,
    EmbeddedPostgres,
    ServerAccount,
    find_binaries,
    server_account,
)
from tests.support.waiting import wait_until

WAIT_S = 20
# Selects the backends whose COMMIT waits for the standby.
_WAITING_COMMITS = (
    "SELECT pid, query_start FROM pg_stat_activity"
    " WHERE wait_event = 'SyncRep' AND query_start > %s::timestamptz ORDER BY query_start"
)


class CommitWait(NamedTuple):
    """A backend whose COMMIT waits for the standby, and the start time of the COMMIT."""

    pid: int
    started_at: Any


class Node:
    """A PostgreSQL server with its own data directory and Unix socket."""

    def __init__(
        self,
        name: str,
        folder: Path,
        socket_root: Path,
        account: ServerAccount,
        *,
        durable: bool = False,
        tcp_port: int | None = None,
    ) -> None:
        """Prepare a node without starting it; `durable` sets fsync to on.

        With `tcp_port`, clients connect to this port of 127.0.0.1, without a password.
        """
        self.name = name
        self.data = folder / name
        self.socket_folder = socket_root / name
        self.socket_folder.mkdir(mode=0o700)
        account.own(self.socket_folder)
        self._account = account
        self._log_file = folder / f"{name}.log"
        # The processes of the server share a lock on this file. The lock is free when all of them
        # have exited.
        self._lock_file = folder / f"{name}.node_lock"
        self._lock_file.touch()
        self._is_durable = durable
        self._tcp_port = tcp_port
        self.port = tcp_port or PORT
        self._process: Any = None
        self._primary_conninfo = ""

    def start(self) -> None:
        """Start the server and wait until it accepts queries."""
        settings = {
            "listen_addresses": "127.0.0.1" if self._tcp_port else "",
            "unix_socket_directories": str(self.socket_folder),
            "port": str(self.port),
            "max_connections": "200",
            "wal_retrieve_retry_interval": "100ms",
            "fsync": "on" if self._is_durable else "off",
            # The name of a standby in the primary's setting synchronous_standby_names.
            "cluster_name": self.name,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self._lock_file.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._process = self._launch("postgres", "-D", str(self.data), *options, lock=lock)
        wait_until(self._accepts_queries, WAIT_S, f"{self.name} to start, see {self._log_file}")

    def kill(self) -> None:
        """Kill the server with SIGKILL and wait until all its processes have exited."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(WAIT_S)
        self._process = None
        wait_until(self._has_exited, WAIT_S, f"{self.name} to exit")
        # The killed server left its process id in these files. PostgreSQL does not start if another
        # process now has this id.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self.socket_folder / f".s.PGSQL.{self.port}.lock").unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop the server as `systemctl stop postgresql` does: it closes all connections."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(WAIT_S)
        self._process = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the execution of all processes of the server during the `with` block."""
        # The main process stops first, so that it starts no further process.
        main_pid = self._process.pid
        os.kill(main_pid, signal.SIGSTOP)
        child_pids = process_tree(main_pid)[1:]
        _send_signal(child_pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _send_signal([*child_pids, main_pid], signal.SIGCONT)

    @property
    def socket(self) -> Path:
        return self.socket_folder / f".s.PGSQL.{self.port}"

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the application's database."""
        if self._tcp_port:
            return url_at_port(self.port)
        quoted_folder = quote(str(self.socket_folder))
        return f"postgresql+psycopg2://{USER}@/{DATABASE}?host={quoted_folder}&port={self.port}"

    def query(self, sql: str, *values: object) -> list[Any]:
        """Execute a statement on a new connection; return its rows."""
        connection = psycopg2.connect(
            host=str(self.socket_folder),
            port=self.port,
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

    def copy_from(self, primary: "Node") -> None:
        """Make this node a new standby of `primary`, with a base backup of its data."""
        if self.data.exists():
            shutil.rmtree(self.data)
        self.data.mkdir(mode=0o700)
        self._account.own(self.data)
        source_options = [
            f"--host={primary.socket_folder}",
            f"--port={primary.port}",
            f"--username={USER}",
        ]
        target_options = [f"--pgdata={self.data}", "--write-recovery-conf", "--checkpoint=fast"]
        slot_options = ["--create-slot", f"--slot={self.name}"]
        backup_process = self._launch(
            "pg_basebackup", *source_options, *target_options, *slot_options, "--no-sync"
        )
        assert backup_process.wait(60) == 0, self._log_file.read_text()

    def disconnect(self) -> None:
        """Stop replication to this standby, as a network failure does."""
        self._primary_conninfo = self.query("SHOW primary_conninfo")[0][0]
        self.configure("primary_conninfo", "")
        wait_until(lambda: not self._is_replicating(), WAIT_S, "the standby to disconnect")

    def reconnect(self) -> None:
        """Resume replication to this standby."""
        self.configure("primary_conninfo", self._primary_conninfo)

    def promote(self) -> None:
        assert self.query("SELECT pg_promote(true, 60)") == [(True,)]

    def commit_wait(self, *, after: CommitWait | None = None) -> CommitWait | None:
        """Return the oldest COMMIT that waits for the standby and is newer than `after`."""
        rows = self.query(_WAITING_COMMITS, after.started_at if after else "-infinity")
        return CommitWait(*rows[0]) if rows else None

    def terminate(self, commit_wait: CommitWait) -> None:
        """Terminate a backend that waits for the standby; its commit stays on this node."""
        assert self.query("SELECT pg_terminate_backend(%s)", commit_wait.pid) == [(True,)]

    def cancel(self, commit_wait: CommitWait) -> None:
        """Cancel the wait for the standby; the COMMIT then succeeds with a warning."""
        assert self.query("SELECT pg_cancel_backend(%s)", commit_wait.pid) == [(True,)]

    def _launch(
        self, program: str, *options: str, lock: BinaryIO | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a PostgreSQL program; it inherits the file descriptor of a given `lock`."""
        with self._log_file.open("ab") as log:
            return subprocess.Popen(
                [*self._account.become, str(find_binaries() / program), *options],
                cwd="/",
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal does not stop a server that runs in a separate session.
                start_new_session=True,
                pass_fds=[lock.fileno()] if lock else [],
            )

    def _has_exited(self) -> bool:
        """Return whether no process of the server holds the lock."""
        with self._lock_file.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _accepts_queries(self) -> bool:
        assert self._process.poll() is None, self._log_file.read_text()
        try:
            return bool(self.query("SELECT 1"))
        except psycopg2.OperationalError:
            return False

    def _is_replicating(self) -> bool:
        return bool(self.query("SELECT 1 FROM pg_stat_wal_receiver"))


def url_at_port(port: int) -> str:
    """Return the SQLAlchemy URL of the application's database at a port of 127.0.0.1."""
    return f"postgresql+psycopg2://{USER}@127.0.0.1:{port}/{DATABASE}"


def _send_signal(pids: list[int], signal_number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a process that has ended meanwhile
            os.kill(pid, signal_number)


def create_data_directory(folder: Path, *, migrated: bool = True) -> ServerAccount:
    """Create a data directory, with migrated tables by default; return its owner, a Unix user."""
    embedded_postgres = EmbeddedPostgres(folder)
    try:
        database = Database(embedded_postgres.start())
        if migrated:
            migrate(database)
        database.close()
    finally:
        embedded_postgres.close()
    return server_account(folder, find_binaries())


@contextmanager
def socket_directory() -> Iterator[Path]:
    """Create a directory with a short path: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="livebackend-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)
