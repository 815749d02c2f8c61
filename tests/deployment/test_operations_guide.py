"""Runs the commands of docs/operations.md in order, in an isolated environment."""

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
from tests.support.machine import ROOT, Machine, Shell, fill_in_settings, machine

DOCUMENT = ROOT / "docs" / "operations.md"
# Prefixes of the commands that the test skips, each with the reason.
SKIPPED_COMMANDS = {
    "useradd": "changes the users of the test machine",
    "sudo -u postgres createuser": "the embedded PostgreSQL has this user from the start",
    "journalctl": "needs the journal of systemd",
    "scp": "needs another host",
    "echo 'server other.example": "needs another host",
    "docker": "needs a Docker daemon",
}
PHONE, PASSWORD = "13800000001", "harbour-42"

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]


def commands() -> list[tuple[str, str]]:
    """Return (heading, command) for each command in docs/operations.md."""
    headed_commands = []
    for section in DOCUMENT.read_text("utf-8").split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        for console_block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
            assert all(line.startswith("$ ") for line in console_block.splitlines()), console_block
            headed_commands += [
                (heading, line.removeprefix("$ ")) for line in console_block.splitlines()
            ]
    return headed_commands


def is_executed(command: str) -> bool:
    return not any(command.startswith(prefix) for prefix in SKIPPED_COMMANDS)


class Scenario:
    """Requests and checks that the test runs between the documented commands."""

    def __init__(self, test_machine: Machine, postgres: EmbeddedPostgres, shell: Shell) -> None:
        self.machine = test_machine
        self.postgres = postgres
        self.shell = shell
        self.token, self.password = "", PASSWORD
        self.entries_before_restore: list[tuple[object, ...]] = []
        self.failed_responses: list[str] = []
        self.request_count = 0

    def post(self, path: str, **form: str) -> dict[str, object]:
        """Send a request to nginx over HTTPS; return the envelope of the response."""
        curl_arguments = [
            curl_argument for name in form for curl_argument in ("--data", f"{name}={form[name]}")
        ]
        completed = subprocess.run(
            [
                "curl",
                "--fail",
                "--silent",
                "--show-error",
                # Debian's curl fails if a reload of nginx closes an HTTP/2 connection.
                "--http1.1",
                f"https://live.example{path}",
                *curl_arguments,
            ],
            env={"CURL_HOME": str(self.machine.root), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        if completed.returncode != 0:
            return {"result": completed.stderr}
        envelope: dict[str, object] = json.loads(completed.stdout)
        return envelope

    @contextmanager
    def continuous_requests(self) -> Iterator[None]:
        """Send requests during the `with` block; record each error response."""
        stop_event = threading.Event()

        def send_requests() -> None:
            while not stop_event.is_set():
                response = self.post("/friend", search="1", token=self.token, userId=PHONE)
                self.request_count += 1
                if response["result"] != "0000":
                    self.failed_responses.append(str(response))
                time.sleep(0.02)

        thread = threading.Thread(target=send_requests)
        thread.start()
        try:
            yield
        finally:
            stop_event.set()
            thread.join()

    def after_init(self) -> None:
        fill_in_settings(self.machine, self.postgres)

    def after_install(self) -> None:
        """Register a user, buy coins, go live, and store a picture."""
        account = {"userId": PHONE, "password": PASSWORD}
        assert self.post("/register", register="1", **account)["result"] == "0000"
        self.log_in()
        assert self.post("/golden", refill="1", token=self.token, money="50")["result"] == "0000"
        assert self.post("/room", live="1", token=self.token)["result"] == "0000"
        (self.machine.root / "var/lib/livebackend/pictures/x").mkdir(parents=True)
        (self.machine.root / "var/lib/livebackend/pictures/x/y.png").write_bytes(b"y")

    def log_in(self) -> None:
        response = self.post("/log", userId=PHONE, password=PASSWORD)
        assert response["result"] == "0000", response
        self.token = str(response["message"])

    def after_password_reset(self) -> None:
        """Reset the password again, and store the new password for later logins."""
        _, output = self.shell.run(
            "livebackend user reset-password --json "
            f"{self.machine.root}/etc/livebackend/production.ini {PHONE} 2> /dev/null"
        )
        self.password = json.loads(output)["password"]
        response = self.post("/log", userId=PHONE, password=self.password)
        self.token = str(response["message"])

    def ledger_entries(self, database_name: str) -> list[tuple[object, ...]]:
        database = Database(self.postgres.url(database_name))
        with database.engine.connect() as connection:
            rows = connection.execute(
                text("SELECT transfer_id, coin_account_id, amount FROM entries ORDER BY 1, 2")
            )
            ledger_entries = [tuple(row) for row in rows]
        database.close()
        return ledger_entries

    def before_restore(self) -> None:
        self.entries_before_restore = self.ledger_entries("livebackend")
        (self.machine.root / "var/lib/livebackend/pictures/x/y.png").unlink()

    def after_restore(self) -> None:
        assert self.entries_before_restore
        assert self.ledger_entries("livebackend_restored") == self.entries_before_restore
        database = Database(self.postgres.url("livebackend_restored"))
        with database.engine.connect() as connection:
            entry_sum_query = text("SELECT sum(amount) FROM entries")
            assert connection.execute(entry_sum_query).scalar_one() == 0
            slot_sum_query = text("SELECT sum(amount)::bigint FROM coin_slots")
            assert connection.execute(slot_sum_query).scalar_one() == 50
        database.close()
        assert (self.machine.root / "var/lib/livebackend/pictures/x/y.png").read_bytes() == b"y"
        assert self.post("/log", userId=PHONE, password=self.password)["result"] == "0000"

    def after_rotation(self) -> None:
        """Check that a token is invalid after its signing secret was removed."""
        settings_text = (self.machine.root / "etc/livebackend/livebackend.env").read_text()
        (signing_secrets,) = re.findall('^LIVEBACKEND_SECRETS="(.*)"$', settings_text, re.MULTILINE)
        assert len(signing_secrets.split()) == 1
        old_token_response = self.post("/friend", search="1", token=self.token, userId=PHONE)
        assert old_token_response["result"] == "0012"
        response = self.post("/log", userId=PHONE, password=self.password)
        self.token = str(response["message"])
        new_token_response = self.post("/friend", search="1", token=self.token, userId=PHONE)
        assert new_token_response["result"] == "0000"


def test_commands_of_the_operations_document_succeed(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    postgres.start()
    drop_database(postgres)
    with machine(tmp_path) as test_machine:
        shell = Shell(test_machine.checkout, test_machine.environment(postgres))
        scenario = Scenario(test_machine, postgres, shell)
        try:
            run_document(scenario)
        finally:
            shell.close()
    postgres.close()
    failed_count, request_count = len(scenario.failed_responses), scenario.request_count
    assert scenario.failed_responses == [], f"{failed_count} of {request_count} requests failed"
    assert request_count > 100


def run_document(scenario: Scenario) -> None:
    create_restored_database = "sudo -u postgres createdb --owner livebackend livebackend_restored"
    hooks: dict[str, Callable[[], None]] = {
        "/opt/livebackend/bin/livebackend init": scenario.after_init,
        create_restored_database: scenario.before_restore,
        "curl --fail --silent https://live.example/log": scenario.after_install,
        "livebackend user reset-password": scenario.after_password_reset,
    }
    # The test sends requests during each restart of the servers, except in these sections: their
    # commands stop the servers or invalidate the login token.
    sections_without_requests = {"Back up and restore"}
    for heading, command in commands():
        if not is_executed(command):
            continue
        if 'LIVEBACKEND_SECRETS="\\1"' in command:
            sections_without_requests.add(heading)
        if command == "livebackend-restart" and heading not in sections_without_requests:
            with scenario.continuous_requests():
                run_command(scenario, heading, command)
        else:
            run_command(scenario, heading, command)
        for prefix, hook in hooks.items():
            if command.startswith(prefix):
                hook()
        if command == "livebackend-restart" and heading == "Back up and restore":
            scenario.after_restore()
    scenario.after_rotation()


def run_command(scenario: Scenario, heading: str, command: str) -> None:
    code, output = scenario.shell.run(scenario.machine.relocate(command))
    log_text = "".join(file.read_text()[-2000:] for file in scenario.machine.root.glob("run/*.log"))
    assert code == 0, f"{heading}: {command}\n{output}\n{log_text}"


def drop_database(postgres: EmbeddedPostgres) -> None:
    server = Database(postgres.url("postgres"))
    with server.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("DROP DATABASE livebackend")
    server.close()


def test_skipped_commands_are_in_the_document() -> None:
    documented_commands = [command for _, command in commands()]
    for prefix in SKIPPED_COMMANDS:
        assert any(command.startswith(prefix) for command in documented_commands), prefix
    assert sum(map(is_executed, documented_commands)) >= 40
