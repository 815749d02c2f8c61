"""`livebackend migrate` applies migrations, lists them, and prints their SQL."""

import json
from collections.abc import Callable

from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated
from tests.support.application import DEVELOPMENT_INI
from tests.support.commands import run_command


class TestMigrate:
    def test_migrate_creates_all_tables_and_can_be_repeated(
        self, new_database: Callable[[str], str], worker_id: str
    ) -> None:
        url = new_database(f"cli_{worker_id}")
        for _ in range(2):
            result = run_command("migrate", DEVELOPMENT_INI, LIVEBACKEND_DATABASE_URL=url)
            assert (result.exit_code, result.stdout) == (0, "the database is up to date\n")
            result = run_command("migrate", DEVELOPMENT_INI, "--json", LIVEBACKEND_DATABASE_URL=url)
            assert json.loads(result.stdout) == {"migrated": True}
        database = Database(url)
        check_migrated(database)
        database.close()

    def test_status_and_dry_run_change_nothing(
        self, new_database: Callable[[str], str], worker_id: str
    ) -> None:
        url = new_database(f"cli_{worker_id}")
        status = run_command("migrate", DEVELOPMENT_INI, "--status", LIVEBACKEND_DATABASE_URL=url)
        assert status.exit_code == 0
        assert {line.split()[1] for line in status.stdout.splitlines()} == {"pending"}
        dry_run = run_command("migrate", DEVELOPMENT_INI, "--dry-run", LIVEBACKEND_DATABASE_URL=url)
        assert "CREATE TABLE transfers" in dry_run.stdout
        status_after_dry_run = run_command(
            "migrate", DEVELOPMENT_INI, "--status", LIVEBACKEND_DATABASE_URL=url
        )
        assert status_after_dry_run.stdout == status.stdout
        assert run_command("migrate", DEVELOPMENT_INI, LIVEBACKEND_DATABASE_URL=url).exit_code == 0
        result = run_command(
            "migrate", DEVELOPMENT_INI, "--status", "--json", LIVEBACKEND_DATABASE_URL=url
        )
        assert all(migration["is_applied"] for migration in json.loads(result.stdout)["migrations"])

    def test_unreachable_database_is_reported_in_one_message(self) -> None:
        url = "postgresql+psycopg2://unknown@127.0.0.1:1/nothing"
        result = run_command("migrate", DEVELOPMENT_INI, LIVEBACKEND_DATABASE_URL=url)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: the database cannot be used:\n  database.url: ")

    def test_invalid_setting_is_reported_in_one_message(self) -> None:
        result = run_command("migrate", DEVELOPMENT_INI, LIVEBACKEND_CODES_TTL_S="never")
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: the settings are invalid:\n  codes.ttl_s: ")
