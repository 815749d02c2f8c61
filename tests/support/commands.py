"""Runs `livebackend` commands in the process of the test."""

import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner, Result
from plaster.loaders import find_loaders

from livebackend.cli import main
from tests.support.application import DEVELOPMENT_INI, RECORDING_EVENTS


@cache
def _cached_find_loaders(scheme: str, protocols: tuple[str, ...]) -> Any:
    return find_loaders(scheme, protocols)


def _find_loaders(scheme: str, protocols: Sequence[str] | None = None) -> Any:
    """Cache the result of `find_loaders`, which searches all installed packages."""
    return _cached_find_loaders(scheme, tuple(protocols or ()))


def run_command(*arguments: str | Path, **environment: str) -> Result:
    """Run a command; restore the root logger's handlers and level; return the result."""
    root_logger = logging.getLogger()
    handlers, level = root_logger.handlers[:], root_logger.level
    try:
        # The cache saves time: a command calls `find_loaders` twice, and each call takes 34 ms.
        with mock.patch("plaster.loaders.find_loaders", _find_loaders):
            return CliRunner(env=environment).invoke(main, list(map(str, arguments)))
    finally:
        root_logger.handlers[:], root_logger.level = handlers, level


class Operator:
    """Runs commands with development.ini and the database of the tests."""

    def __init__(
        self, database_url: str, data_dir: Path, *, events_gateway: str = RECORDING_EVENTS
    ) -> None:
        self._environment = {
            "LIVEBACKEND_DATABASE_URL": database_url,
            "LIVEBACKEND_DATA_DIR": str(data_dir),
            "LIVEBACKEND_PASSWORDS_COST": "4",
            "LIVEBACKEND_EVENTS_GATEWAY": events_gateway,
        }

    def run(self, command: str, *arguments: str, code: int = 0, **settings: Any) -> Result:
        """Run `command` with the ini file and the arguments; check its exit code."""
        environment = self._environment | {
            f"LIVEBACKEND_{name.upper()}": value for name, value in settings.items()
        }
        result = run_command(*command.split(), DEVELOPMENT_INI, *arguments, **environment)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def run_json(self, command: str, *arguments: str, code: int = 0, **settings: Any) -> Any:
        """Run `command` with `--json`; return the JSON object that it prints."""
        return json.loads(self.run(command, *arguments, "--json", code=code, **settings).stdout)


@pytest.fixture
def operator(database_url: str, data_dir: Path) -> Operator:
    return Operator(database_url, data_dir)
