"""A Python client that openapi-python-client generates is typed, and works with a server."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import Server

FOLDER = Path(__file__).with_name("python")

pytestmark = pytest.mark.processes


def run_python(*arguments: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the story and the generated client."""
    folder = tmp_path_factory.mktemp("python")
    shutil.copy(FOLDER / "story.py", folder)
    result = run_python(
        "-m",
        "openapi_python_client",
        "generate",
        f"--path={documents / 'openapi-operations.json'}",
        f"--config={FOLDER / 'config.yml'}",
        "--meta=none",
        f"--output-path={folder / 'livebackend_api'}",
        "--fail-on-warning",
        cwd=folder,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_generated_client_and_story_have_correct_types(folder: Path) -> None:
    result = run_python(
        "-m", "mypy", "--strict", "--config-file=", "story.py", "livebackend_api", cwd=folder
    )
    assert result.returncode == 0, result.stdout


def test_story_runs_with_the_generated_client(folder: Path, server: Server, picture: Path) -> None:
    result = run_python("story.py", server.address, picture, cwd=folder)
    reason = "value; reason=insufficient_coins"
    assert (result.stdout, result.stderr) == (f"result code 0013: {reason}\n", "")
