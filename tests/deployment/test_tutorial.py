"""Runs the commands of docs/tutorial.md and the request of README.md. Needs curl and jq."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from tests.support.application import DEVELOPMENT_INI, PRODUCTION_INI
from tests.support.markdown import DOCS, ROOT, Page
from tests.support.servers import Server, production_overrides, running_server
from tools.generate_client import declared_operations

DOCUMENTED_ADDRESS = "http://127.0.0.1:6543"
TUTORIAL = Page(DOCS / "tutorial.md")
SEPARATOR = "--- end of block ---"

pytestmark = pytest.mark.processes


def steps(page: Page) -> list[tuple[str, str]]:
    """Return the commands of each `sh` block, and the output that the next block documents."""
    nodes = [block.node for block in page.blocks]
    command_blocks = []
    for node, next_node in zip(nodes, [*nodes[1:], None], strict=True):
        if node.type == "fence" and node.info == "sh":
            has_output = next_node and next_node.type == "fence" and next_node.info != "sh"
            output = next_node.content if next_node and has_output else ""
            command_blocks.append((node.content, output))
    return command_blocks


def run_steps(
    documented_steps: list[tuple[str, str]], server: Server, **replacements: str
) -> list[str]:
    """Run the steps in one shell and compare their output.

    `replacements` maps shell variables to the values that replace the documented values.
    """
    script = "".join(f"{commands}echo\necho '{SEPARATOR}'\n" for commands, _ in documented_steps)
    for variable, value in replacements.items():
        assignment = f"{variable}={value}".replace("\\", r"\\")
        script = re.sub(rf"^{variable}=.*$", assignment, script, flags=re.MULTILINE)
    completed_process = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(DOCUMENTED_ADDRESS, server.address)],
        cwd=server.log.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # curl ends a response without a line feed, so two responses can be on one line.
    outputs = completed_process.stdout.split(SEPARATOR)[:-1]
    for (commands, documented_output), output in zip(documented_steps, outputs, strict=True):
        assert re.fullmatch(output_pattern(documented_output), without_space(output)), (
            f"{commands}\n{output}"
        )
    return outputs


def output_pattern(documented_output: str) -> str:
    return ".*".join(map(re.escape, without_space(documented_output).split("…")))


def without_space(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.fixture
def url(new_database: Callable[[str], str], worker_id: str) -> str:
    """URL of a database with all tables and no rows."""
    url = new_database(f"tutorial_{worker_id}")
    database = Database(url)
    migrate(database)
    database.close()
    return url


def test_tutorial_works_twice_with_one_database(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    with running_server(DEVELOPMENT_INI, folder, {"database.url": url}, pserve=True) as server:
        run_steps(steps(TUTORIAL), server)
        # The phone numbers contain the time in seconds.
        run_steps([("sleep 1\n", ""), *steps(TUTORIAL)], server)


def test_tutorial_works_in_production(url: str, tmp_path: Path) -> None:
    # The bcrypt cost of production; without this setting, `running_server` sets a lower cost.
    settings = production_overrides(url) | {"passwords.cost": "12"}
    with running_server(PRODUCTION_INI, tmp_path, settings) as server:
        # With production.ini, the response contains no code. The development SMS gateway logs it.
        # The server writes its log up to 0.05 s later.
        last_code = f"sed -n 's/.*code for .*: \\([0-9]*\\).*/\\1/p' '{server.log}' | tail -n 1"
        code = f"$(sleep 0.5; {last_code})"
        run_steps(steps(TUTORIAL), server, CODE=code)


def test_request_in_the_readme_has_the_documented_response(url: str, tmp_path: Path) -> None:
    readme_steps = [
        (commands.replace("curl", "curl -s"), output)
        for commands, output in steps(Page(ROOT / "README.md"))
        if commands.startswith("curl")
    ]
    assert len(readme_steps) == 1
    with running_server(DEVELOPMENT_INI, tmp_path, {"database.url": url}, pserve=True) as server:
        run_steps(readme_steps, server)


def test_tutorial_uses_every_operation_of_the_api_document() -> None:
    commands = "\n".join(TUTORIAL.fences("sh")).splitlines()
    for operation in [item for item in declared_operations() if item.documented]:
        parameters = list(operation.parameters.model_fields)
        argument = f"-d {operation.selector}=1" if operation.selector else parameters[0]
        assert any(
            f"/{operation.routes[0]} " in command and argument in command for command in commands
        ), operation.name


def test_output_with_an_ellipsis_matches_any_text_and_nothing_else() -> None:
    assert re.fullmatch(output_pattern('{"a":"…"}'), '{"a":"x"}')
    assert not re.fullmatch(output_pattern('{"a":"…"}'), '{"b":"x"}')
