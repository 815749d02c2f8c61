"""What all commands have: help, JSON, and errors."""

import json
from collections.abc import Iterator

import click
import pytest

from livebackend.cli import main
from tests.support.application import PRODUCTION_INI
from tests.support.commands import run


def commands(group: click.Group = main, *words: str) -> Iterator[tuple[str, ...]]:
    """Every command and group, by its words."""
    for name, command in group.commands.items():
        yield (*words, name)
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    done = run(*words, "--help")
    assert done.exit_code == 0
    assert f"Example: livebackend {' '.join(words)}" in done.stdout


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_can_print_json(words: tuple[str, ...]) -> None:
    said = run(*words, "--help").stdout
    assert "--json" in said or "COMMAND" in said or words == ("serve",)


def test_faults_are_json_too() -> None:
    done = run("check-config", PRODUCTION_INI, "--json")
    assert done.exit_code == 1
    assert "secrets: is missing" in json.loads(done.stdout)["faults"]
