"""What an operator types."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from livebackend.cli import main
from livebackend.db import Database
from livebackend.migrate import check_migrated
from tests.conftest import INI

PRODUCTION = INI.with_name("production.ini")


def run(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, list(map(str, arguments)))


class TestMigrate:
    def test_it_makes_the_tables(self, new_database: Callable[[str], str], worker_id: str) -> None:
        url = new_database(f"cli_{worker_id}")
        for _ in range(2):
            done = run("migrate", INI, LIVEBACKEND_DATABASE_URL=url)
            assert (done.exit_code, done.stdout) == (0, "the database is up to date\n")
        database = Database(url)
        check_migrated(database)
        database.close()

    def test_a_database_that_is_away_is_one_message(self) -> None:
        url = "postgresql+psycopg2://nobody@127.0.0.1:1/nothing"
        done = run("migrate", INI, LIVEBACKEND_DATABASE_URL=url)
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: the settings are faulty:\n  database.url: ")

    def test_faulty_settings_are_one_message(self) -> None:
        done = run("migrate", INI, LIVEBACKEND_CODES_TTL_S="never")
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: the settings are faulty:\n  codes.ttl_s: ")


class TestCheckConfig:
    def test_sound_settings(self) -> None:
        done = run("check-config", INI)
        assert (done.exit_code, done.stdout) == (0, "the settings are sound\n")

    def test_every_fault_is_named(self) -> None:
        done = run("check-config", PRODUCTION)
        assert done.exit_code == 1
        for name in ("database.url", "secrets", "passwords.pepper", "streams.gateway"):
            assert f"  {name}: is missing\n" in done.stderr

    def test_a_folder_that_takes_no_files(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        folder = str(tmp_path / "file" / "var")
        done = run("check-config", INI, LIVEBACKEND_VAR_DIR=folder)
        assert done.exit_code == 1
        assert f"  var.dir: nothing can be kept in {folder}\n" in done.stderr

    def test_yes_is_true(self, new_database: Callable[[str], str], worker_id: str) -> None:
        empty = new_database(f"empty_{worker_id}")
        for said, exit_code in (("yes", 0), ("True", 0), ("false", 1)):
            environment = {"LIVEBACKEND_DATABASE_URL": empty, "LIVEBACKEND_DATABASE_MIGRATE": said}
            assert run("check-config", INI, **environment).exit_code == exit_code

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert run("check-config", tmp_path / "no.ini").exit_code == 2


@pytest.mark.parametrize("command", main.commands)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    assert f"Example: livebackend {command}" in done.stdout
