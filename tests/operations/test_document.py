"""Every command of docs/operations.md is run, in its order, on a machine of its own."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from livebackend.database.engine import Database
from livebackend.development.embedded_postgres import EmbeddedPostgres
from tests.support.machine import ROOT, Machine, Shell, machine

DOCUMENT = ROOT / "docs" / "operations.md"
# How each command that is not run begins, and why.
NOT_RUN = {
    "useradd": "it changes the users of the machine that tests",
    "sudo -u postgres createuser": "the embedded PostgreSQL begins with that user",
    "journalctl": "it reads the journal of a machine that runs systemd",
    "scp": "another host",
    "echo 'server other.example": "another host",
    "docker": "a Docker daemon",
}
# What "fill in what is empty" means here: gateways that need nobody's keys.
FILLED_IN = """
LIVEBACKEND_GATEWAYS_EMBEDDED_IS_MEANT=true
LIVEBACKEND_SMS_GATEWAY=livebackend.development.sms.DevelopmentSms
LIVEBACKEND_STREAMS_GATEWAY=livebackend.development.streams.DevelopmentStreams
LIVEBACKEND_REGISTER_VERIFIED_PHONE=optional
LIVEBACKEND_COINS_DIRECT_REFILL_IS_MEANT=true
LIVEBACKEND_COINS_REFILL=direct
LIVEBACKEND_LIMITS_SEARCH=
LIVEBACKEND_LIMITS_REFILL=
LIVEBACKEND_PASSWORDS_COST=4
LIVEBACKEND_PASSWORDS_AT_ONCE=4
"""
PHONE, PASSWORD = "13800000001", "harbour-42"

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]


def commands() -> list[tuple[str, str]]:
    """Each command, with the heading above it."""
    found = []
    for section in DOCUMENT.read_text("utf-8").split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
            assert all(line.startswith("$ ") for line in block.splitlines()), block
            found += [(heading, line.removeprefix("$ ")) for line in block.splitlines()]
    return found


def is_run(command: str) -> bool:
    return not any(command.startswith(beginning) for beginning in NOT_RUN)


class Story:
    """What happens on the machine between the commands, and what is found after them."""

    def __init__(self, here: Machine, postgres: EmbeddedPostgres, shell: Shell) -> None:
        self.here = here
        self.postgres = postgres
        self.shell = shell
        self.token, self.password = "", PASSWORD
        self.books: list[tuple[object, ...]] = []
        self.failed: list[str] = []
        self.calls = 0

    def call(self, path: str, **form: str) -> dict[str, object]:
        """What the API answers by nginx and HTTPS."""
        data = [word for name in form for word in ("--data", f"{name}={form[name]}")]
        done = subprocess.run(
            ["curl", "--fail", "--silent", "--show-error", f"https://live.example{path}", *data],
            env={"CURL_HOME": str(self.here.root), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else {"result": done.stderr}

    @contextmanager
    def called_without_end(self) -> Iterator[None]:
        """Somebody calls all the time; each answer that is no success is noted."""
        over = threading.Event()

        def calls() -> None:
            while not over.is_set():
                answer = self.call("/friend", search="1", token=self.token, userId=PHONE)
                self.calls += 1
                if answer["result"] != "0000":
                    self.failed.append(str(answer))
                time.sleep(0.02)

        thread = threading.Thread(target=calls)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def after_init(self) -> None:
        file = self.here.root / "etc/livebackend/livebackend.env"
        database = self.postgres.url("livebackend")
        lines = [
            f'LIVEBACKEND_DATABASE_URL="{database}"'
            if line.startswith("LIVEBACKEND_DATABASE_URL")
            else line
            for line in file.read_text().splitlines()
            if not line.endswith("=")  # what was empty
        ]
        listen = f"LIVEBACKEND_METRICS_LISTEN=127.0.0.1:{self.here.ports['6544']}\n"
        file.write_text("\n".join(lines) + FILLED_IN + listen)

    def after_install(self) -> None:
        """Somebody registers, buys coins and goes live."""
        account = {"userId": PHONE, "password": PASSWORD}
        assert self.call("/register", register="1", **account)["result"] == "0000"
        self.log_in()
        assert self.call("/golden", refill="1", token=self.token, money="50")["result"] == "0000"
        assert self.call("/room", live="1", token=self.token)["result"] == "0000"
        (self.here.root / "var/lib/livebackend/pictures/x").mkdir(parents=True)
        (self.here.root / "var/lib/livebackend/pictures/x/y.png").write_bytes(b"y")

    def log_in(self) -> None:
        answer = self.call("/log", userId=PHONE, password=PASSWORD)
        assert answer["result"] == "0000", answer
        self.token = str(answer["message"])

    def after_people(self) -> None:
        """Her password was reset; the next chapters need one that is known."""
        done = self.shell.run(
            "livebackend user reset-password --json "
            f"{self.here.root}/etc/livebackend/production.ini {PHONE} 2> /dev/null"
        )
        self.password = json.loads(done[1])["password"]
        answer = self.call("/log", userId=PHONE, password=self.password)
        self.token = str(answer["message"])

    def entries(self, name: str) -> list[tuple[object, ...]]:
        database = Database(self.postgres.url(name))
        with database.engine.connect() as connection:
            rows = connection.execute(
                text("SELECT transfer_id, coin_account_id, amount FROM entries ORDER BY 1, 2")
            )
            found = [tuple(row) for row in rows]
        database.close()
        return found

    def before_restore(self) -> None:
        self.books = self.entries("livebackend")
        (self.here.root / "var/lib/livebackend/pictures/x/y.png").unlink()

    def after_restore(self) -> None:
        assert self.books
        assert self.entries("livebackend_restored") == self.books
        database = Database(self.postgres.url("livebackend_restored"))
        with database.engine.connect() as connection:
            total = text("SELECT sum(amount) FROM entries")
            assert connection.execute(total).scalar_one() == 0
            slots = text("SELECT sum(amount)::bigint FROM coin_slots")
            assert connection.execute(slots).scalar_one() == 50
        database.close()
        assert (self.here.root / "var/lib/livebackend/pictures/x/y.png").read_bytes() == b"y"
        assert self.call("/log", userId=PHONE, password=self.password)["result"] == "0000"

    def after_rotation(self) -> None:
        """The old secret was dropped: its tokens have ended, and a new one is good everywhere."""
        known = (self.here.root / "etc/livebackend/livebackend.env").read_text()
        (secrets,) = re.findall('^LIVEBACKEND_SECRETS="(.*)"$', known, re.MULTILINE)
        assert len(secrets.split()) == 1
        old = self.call("/friend", search="1", token=self.token, userId=PHONE)
        assert old["result"] == "0012"
        answer = self.call("/log", userId=PHONE, password=self.password)
        self.token = str(answer["message"])
        found = self.call("/friend", search="1", token=self.token, userId=PHONE)
        assert found["result"] == "0000"


def test_the_document_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    postgres.start()
    drop_database(postgres)
    with machine(tmp_path) as here:
        shell = Shell(here.checkout, here.environment(postgres))
        story = Story(here, postgres, shell)
        try:
            tell(story)
        finally:
            shell.close()
    postgres.close()
    assert story.failed == [], f"{len(story.failed)} of {story.calls} calls failed"
    assert story.calls > 100


def tell(story: Story) -> None:
    hooks: dict[str, Callable[[], None]] = {
        "/opt/livebackend/bin/livebackend init": story.after_init,
        "sudo -u postgres createdb --owner livebackend livebackend_restored": story.before_restore,
        "curl --fail --silent https://live.example/log": story.after_install,
        "livebackend user reset-password": story.after_people,
    }
    # Each time the servers are restarted, somebody calls: but where they are stopped all the same,
    # or where her token ends.
    quiet = {"Back up and restore"}
    for heading, command in commands():
        if not is_run(command):
            continue
        if 'LIVEBACKEND_SECRETS="\\1"' in command:
            quiet.add(heading)
        if command == "livebackend-restart" and heading not in quiet:
            with story.called_without_end():
                run(story, heading, command)
        else:
            run(story, heading, command)
        for beginning, hook in hooks.items():
            if command.startswith(beginning):
                hook()
        if command == "livebackend-restart" and heading == "Back up and restore":
            story.after_restore()
    story.after_rotation()


def run(story: Story, heading: str, command: str) -> None:
    code, said = story.shell.run(story.here.moved(command))
    logs = "".join(file.read_text()[-2000:] for file in story.here.root.glob("run/*.log"))
    assert code == 0, f"{heading}: {command}\n{said}\n{logs}"


def drop_database(postgres: EmbeddedPostgres) -> None:
    server = Database(postgres.url("postgres"))
    with server.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("DROP DATABASE livebackend")
    server.close()


def test_what_is_not_run_is_in_the_document() -> None:
    words = [command for _, command in commands()]
    for beginning in NOT_RUN:
        assert any(command.startswith(beginning) for command in words), beginning
    assert sum(map(is_run, words)) >= 40
