"""Syntax errors of ini files: one message without the text of the line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import run_command

_HEAD = "[DEFAULT]\nhost = 127.0.0.1\nport = 6543\n[app:main]\nuse = egg:livebackend\n"
COMMANDS = ["check-config", "serve", "doctor", "migrate", "housekeeping", "room list"]


@pytest.fixture
def ini_with(tmp_path: Path) -> Callable[[str], Path]:
    def write(lines: str, head: str = _HEAD) -> Path:
        ini = tmp_path / "production.ini"
        ini.write_text(f"{head}{lines}\n")
        return ini

    return write


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "database.url = postgresql://user:hunter%40two@localhost/x",
            "database.url: write a % in a value as %%",
        ),
        ("passwords.pepper = %(hunter)s", "passwords.pepper: write a % in a value as %%"),
        ("passwords.pepper = hunter%", "passwords.pepper: write a % in a value as %%"),
        ("passwords.pepper hunter", "line 6: is not `name = value`"),
        ("secrets = hunter\nsecrets = hunter", "line 7: secrets is set twice"),
        ("[app:main]\nsecrets = hunter", "line 6: the section [app:main] exists already"),
    ],
)
def test_syntax_error_is_reported_without_the_value(
    command: str, lines: str, message: str, ini_with: Callable[[str], Path]
) -> None:
    ini = ini_with(lines)
    result = run_command(*command.split(), ini)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr == f"Error: the settings are invalid:\n  {ini}: {message}\n"
    assert "hunter" not in result.output


def test_ini_file_without_a_section_is_reported(tmp_path: Path) -> None:
    ini = tmp_path / "production.ini"
    ini.write_text("secrets = hunter\n")
    result = run_command("check-config", ini)
    assert result.stderr.endswith("line 1: a section such as [app:main] must come first\n")
    assert "hunter" not in result.output
