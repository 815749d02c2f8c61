"""`livebackend …` as an operator types it, in this process."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from livebackend.cli import main
from tests.support.application import INI


def run(*arguments: str | Path, **environment: str) -> Result:
    """Runs a command, and leaves the logging of the tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
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
