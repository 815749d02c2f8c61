"""`livebackend …` as an operator types it, in this process."""

import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner, Result
from plaster.loaders import find_loaders  # type: ignore[import-untyped]

from livebackend.cli import main
from tests.support.application import INI


@cache
def _loaders(scheme: str, protocols: tuple[str, ...]) -> Any:
    return find_loaders(scheme, protocols)


def _find_loaders(scheme: str, protocols: Sequence[str] | None = None) -> Any:
    """Find the loaders of an ini file: a search of all installed packages, once per process."""
    return _loaders(scheme, tuple(protocols or ()))


def run(*arguments: str | Path, **environment: str) -> Result:
    """Run a command, and leave the logging of the tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        # Each command searches twice; a search takes 34 ms.
        with mock.patch("plaster.loaders.find_loaders", _find_loaders):
            return CliRunner(env=environment).invoke(main, list(map(str, arguments)))
    finally:
        root.handlers[:], root.level = handlers, level


class Operator:
    """Somebody with development.ini and this database."""

    def __init__(self, database_url: str, var_dir: Path) -> None:
        self._environment = {
            "LIVEBACKEND_DATABASE_URL": database_url,
            "LIVEBACKEND_VAR_DIR": str(var_dir),
            "LIVEBACKEND_PASSWORDS_COST": "4",
        }

    def runs(self, command: str, *arguments: str, code: int = 0, **settings: Any) -> Result:
        """Runs `command`, the ini file, and the arguments; it ends with this exit code."""
        environment = self._environment | {
            f"LIVEBACKEND_{name.upper()}": value for name, value in settings.items()
        }
        done = run(*command.split(), INI, *arguments, **environment)
        assert done.exit_code == code, (done.output, done.exception)
        return done

    def reads(self, command: str, *arguments: str, code: int = 0, **settings: Any) -> Any:
        """What it prints with `--json`: one object, and nothing else."""
        return json.loads(self.runs(command, *arguments, "--json", code=code, **settings).stdout)


@pytest.fixture
def operator(database_url: str, var_dir: Path) -> Operator:
    return Operator(database_url, var_dir)
