"""A TypeScript client that hey-api generates compiles, and works with a server."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.contract.conftest import TYPESCRIPT_FOLDER, NodeRunner
from tests.support.servers import Server

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def folder(documents: Path, run_node: NodeRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the story, the generated client, and the JavaScript of both."""
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "node_modules").symlink_to(TYPESCRIPT_FOLDER / "node_modules")
    for name in ("package.json", "tsconfig.json", "story.ts"):
        shutil.copy(TYPESCRIPT_FOLDER / name, folder)
    result = run_node(
        ".bin/openapi-ts",
        "--client=@hey-api/client-fetch",
        f"--input={documents / 'openapi-operations.json'}",
        f"--output={folder / 'client'}",
        "--no-log-file",
        cwd=folder,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    # The strict mode is in tsconfig.json.
    result = run_node(".bin/tsc", "--project", folder)
    assert result.returncode == 0, result.stdout
    return folder


def test_client_has_a_function_for_each_operation(folder: Path, documents: Path) -> None:
    document = json.loads((documents / "openapi-operations.json").read_text("utf-8"))
    operations = {methods["post"]["operationId"] for methods in document["paths"].values()}
    source = (folder / "client" / "sdk.gen.ts").read_text("utf-8")
    functions = re.findall(r"^export const (\w+) =", source, re.MULTILINE)
    assert sorted(functions) == sorted(map(camel_case, operations))


def test_story_runs_with_the_generated_client(
    folder: Path, server: Server, picture: Path, run_node: NodeRunner
) -> None:
    result = run_node(folder / "javascript" / "story.js", server.address, picture)
    assert (result.stdout, result.stderr) == ("result code 0013: not enough coins\n", "")


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
