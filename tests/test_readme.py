"""Tests that README.md matches the code, and that its walkthrough works."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

import pytest
from pydantic_core import PydanticUndefined

from livebackend.api.operation_declaration import Operation, operations
from livebackend.api.result_codes import ResultCode
from livebackend.cli import main
from livebackend.config.settings import Settings
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from tests.support.api import App
from tests.support.application import DEVELOPMENT_INI, PRODUCTION_INI
from tests.support.servers import Server, production_overrides, running_server

README = DEVELOPMENT_INI.with_name("README.md").read_text("utf-8")
DOCUMENTED_ADDRESS = "http://127.0.0.1:6543"


def table_rows(first_header: str) -> list[str]:
    """Return the rows of the table whose first column has the header `first_header`."""
    text_before, _, text_after = README.partition(f"| {first_header} |")
    assert text_before, f"README.md has no table whose first column is {first_header}"
    rows_text = text_after.partition("\n\n")[0]
    return rows_text.splitlines()[2:]


def test_operation_tables_in_readme_match_the_declarations(app: App) -> None:
    def table_row(operation: Operation) -> str:
        paths = " ".join(f"/{route}" for route in operation.routes)
        parameters = " ".join(
            name if field.is_required() else f"[{name}]"
            for name, field in operation.parameters.model_fields.items()
        )
        error_codes = " ".join(
            sorted(result.code for result in operation.result_codes - {ResultCode.OK})
        )
        cells = (operation.summary, paths, operation.selector or "", parameters, error_codes)
        return f"| {' | '.join(cells)} |".replace("|  |", "| |")

    for first_header, is_extension in (("operation", False), ("extension", True)):
        declared_operations = [
            operation
            for operation in operations(app.registry)
            if operation.documented is not is_extension
        ]
        assert sorted(table_rows(first_header)) == sorted(map(table_row, declared_operations))


def test_result_table_in_readme_matches_the_result_codes() -> None:
    assert table_rows("result") == [
        f"| {result.code} | {result.chinese} | {result.english} |" for result in ResultCode
    ]


def test_setting_table_in_readme_matches_the_settings() -> None:
    def default_cell(value: object) -> str:
        if value is PydanticUndefined:
            return "(must be set)"
        return f"`{str(value).lower() if isinstance(value, bool) else value}`"

    assert table_rows("setting") == [
        f"| `{name}` | {default_cell(field.default)} | {field.description} |"
        for name, field in Settings.fields_by_name().items()
    ]


def test_readme_lists_every_command() -> None:
    documented_commands = set(re.findall(r"^\| `livebackend ([a-z-]+)` \|", README, re.MULTILINE))
    assert documented_commands == main.commands.keys()


def test_code_layout_in_readme_lists_every_module_and_only_existing_files() -> None:
    code_layout_section = README.partition("## Code layout")[2].partition("## Design decisions")[0]
    paths = re.findall(r"`([a-z_/]+(?:\.py|/))`", code_layout_section)
    documented_files = {path if "/" in path else f"livebackend/{path}" for path in paths}
    assert [path for path in documented_files if not (DEVELOPMENT_INI.parent / path).exists()] == []
    folders = {
        f"livebackend/{path.name}/" for path in (DEVELOPMENT_INI.parent / "livebackend").iterdir()
    }
    modules = {
        f"livebackend/{path.name}" for path in (DEVELOPMENT_INI.parent / "livebackend").glob("*.py")
    }
    packages = {
        folder for folder in folders if (DEVELOPMENT_INI.parent / folder / "__init__.py").exists()
    }
    assert packages | modules <= documented_files


def test_stream_gateways_in_readme_exist() -> None:
    streams_section = README.partition("## Streams")[2].partition("\n## ")[0]
    gateway_names = re.findall(r"^\| `(livebackend[\w.]+)` \|", streams_section, flags=re.MULTILINE)
    assert len(gateway_names) == 4
    for name in gateway_names:
        assert resolve_name(name).from_settings


def test_tests_of_ledger_guarantees_in_readme_exist() -> None:
    test_sources = "".join(path.read_text("utf-8") for path in Path(__file__).parent.rglob("*.py"))
    makefile = DEVELOPMENT_INI.with_name("Makefile").read_text("utf-8")
    names_by_row = [re.findall("`([^`]+)`", row.split(" | ")[-1]) for row in table_rows("promise")]
    assert len(names_by_row) > 5
    for names in names_by_row:
        assert names
        for name in names:
            if name.startswith("make "):
                assert f"\n{name.removeprefix('make ')}:" in makefile
            else:
                assert f"def {name}(" in test_sources, name


@pytest.fixture
def url(new_database: Callable[[str], str], worker_id: str) -> str:
    """URL of a database with all tables and no rows."""
    url = new_database(f"readme_{worker_id}")
    database = Database(url)
    migrate(database)
    database.close()
    return url


def walkthrough_steps() -> list[tuple[str, str]]:
    """Return each command of the walkthrough and its documented output."""
    walkthrough_section = README.partition("## Walkthrough")[2].partition("\n## ")[0]
    steps = []
    for block in re.findall(r"```console\n(.*?)```", walkthrough_section, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, response = step.partition("\n")
            steps.append((command, response.strip()))
    return steps


def run_walkthrough(server: Server, **replacements: str) -> None:
    """Run the walkthrough and compare its output.

    `replacements` maps shell variables to the values that replace the documented values.
    """
    commands = []
    for command, _ in walkthrough_steps():
        variable = command.partition("=")[0]
        replacement = replacements.get(variable)
        commands.append(f"{variable}={replacement}" if replacement else command)
    script = "".join(f"{command}; echo; echo ---\n" for command in commands)
    completed_process = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(DOCUMENTED_ADDRESS, server.address)],
        cwd=server.log.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    responses = [response.strip() for response in completed_process.stdout.split("---\n")[:-1]]
    for (command, documented_output), response in zip(walkthrough_steps(), responses, strict=True):
        pattern = ".*".join(map(re.escape, documented_output.split("…")))
        assert re.fullmatch(pattern, response), f"{command}\n{response}"


@pytest.mark.processes
def test_walkthrough_works_in_development(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    with running_server(DEVELOPMENT_INI, folder, {"database.url": url}, pserve=True) as server:
        run_walkthrough(server)


@pytest.mark.processes
def test_walkthrough_works_in_production(url: str, tmp_path: Path) -> None:
    # The bcrypt cost of production; without this setting, `running_server` sets a lower cost.
    settings = production_overrides(url) | {"passwords.cost": "12"}
    with running_server(PRODUCTION_INI, tmp_path, settings) as server:
        # With production.ini, the response contains no code. The development SMS gateway logs the
        # code.
        run_walkthrough(
            server,
            CODE=f"$(sed -n 's/.*code for .*: \\([0-9]*\\).*/\\1/p' '{server.log}' | tail -n 1)",
        )


def test_walkthrough_uses_every_documented_operation(app: App) -> None:
    commands = [command for command, _ in walkthrough_steps()]
    documented_operations = [item for item in operations(app.registry) if item.documented]
    for operation in documented_operations:
        parameters = list(operation.parameters.model_fields)
        argument = f"-d {operation.selector}=1" if operation.selector else parameters[0]
        assert any(
            f"/{operation.routes[0]} " in command and argument in command for command in commands
        ), operation.name
