"""Help and JSON output of all commands."""

import json
from collections.abc import Iterator

import click
import pytest

from livebackend.cli import main
from tests.support.application import PRODUCTION_INI
from tests.support.commands import run_command


def command_paths(group: click.Group = main, *parent_names: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command and group, such as ("ledger", "audit")."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*parent_names, name)
        if isinstance(command, click.Group):
            yield from command_paths(command, *parent_names, name)


@pytest.mark.parametrize("path", list(command_paths()), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    result = run_command(*path, "--help")
    assert result.exit_code == 0
    assert f"Example: livebackend {' '.join(path)}" in result.stdout


@pytest.mark.parametrize("path", list(command_paths()), ids=" ".join)
def test_every_command_except_serve_has_a_json_option(path: tuple[str, ...]) -> None:
    help_text = run_command(*path, "--help").stdout
    assert "--json" in help_text or "COMMAND" in help_text or path == ("serve",)


def test_configuration_errors_are_printed_as_json() -> None:
    result = run_command("check-config", PRODUCTION_INI, "--json")
    assert result.exit_code == 1
    assert "secrets: is missing" in json.loads(result.stdout)["errors"]
