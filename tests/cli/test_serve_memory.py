"""Modules that the processes of `livebackend serve` do not import, because of their memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import process_tree
from tests.support.application import DEVELOPMENT_INI
from tests.support.servers import running_server

pytestmark = pytest.mark.processes


def imported_packages(program: str) -> set[str]:
    """Run a program in a new process; return the packages that it has imported."""
    completed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        cwd=DEVELOPMENT_INI.parent,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in completed.stdout.split()}


def test_parent_process_imports_neither_the_application_nor_its_libraries() -> None:
    packages = imported_packages("import livebackend.cli.__main__, livebackend.cli.serve")
    assert "granian" in packages
    assert not packages & {
        "PIL",
        "alembic",
        "prometheus_client",
        "psycopg2",
        "pydantic",
        "pyramid",
        "requests",
        "rich",
        "sqlalchemy",
        "webob",
    }


def test_worker_imports_no_library_of_other_commands_and_processes() -> None:
    packages = imported_packages(
        "import livebackend.cli.__main__, livebackend.cli.worker, livebackend.app\n"
        "from pkgutil import walk_packages\n"
        "import livebackend.views\n"
        "for module in walk_packages(livebackend.views.__path__, 'livebackend.views.'):\n"
        "    __import__(module.name)"
    )
    assert "sqlalchemy" in packages
    assert not packages & {"PIL", "alembic", "mako", "pygments", "rich", "waitress"}


def test_running_server_is_a_parent_without_libraries_of_the_application_and_its_workers(
    database_url: str, tmp_path: Path
) -> None:
    settings = {"database.url": database_url, "server.workers": "1"}
    with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
        # No other process runs, such as the checks or multiprocessing's resource tracker.
        (worker,) = process_tree(server.pid)[1:]
        parent_files = Path(f"/proc/{server.pid}/maps").read_text()
        worker_files = Path(f"/proc/{worker}/maps").read_text()
    for library in ("psycopg2", "pydantic_core", "sqlalchemy"):
        assert library not in parent_files
        assert library in worker_files
