"""`livebackend migrate`: the tables, their status, and the SQL that is missing."""

import json
from collections.abc import Callable

from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated
from tests.support.application import INI
from tests.support.commands import run


class TestMigrate:
    def test_it_makes_the_tables(self, new_database: Callable[[str], str], worker_id: str) -> None:
        url = new_database(f"cli_{worker_id}")
        for _ in range(2):
            done = run("migrate", INI, LIVEBACKEND_DATABASE_URL=url)
            assert (done.exit_code, done.stdout) == (0, "the database is up to date\n")
            done = run("migrate", INI, "--json", LIVEBACKEND_DATABASE_URL=url)
            assert json.loads(done.stdout) == {"migrated": True}
        database = Database(url)
        check_migrated(database)
        database.close()

    def test_status_and_dry_run_change_nothing(
        self, new_database: Callable[[str], str], worker_id: str
    ) -> None:
        url = new_database(f"cli_{worker_id}")
        status = run("migrate", INI, "--status", LIVEBACKEND_DATABASE_URL=url)
        assert status.exit_code == 0
        assert {line.split()[1] for line in status.stdout.splitlines()} == {"missing"}
        sql = run("migrate", INI, "--dry-run", LIVEBACKEND_DATABASE_URL=url)
        assert "CREATE TABLE transfers" in sql.stdout
        again = run("migrate", INI, "--status", LIVEBACKEND_DATABASE_URL=url)
        assert again.stdout == status.stdout
        assert run("migrate", INI, LIVEBACKEND_DATABASE_URL=url).exit_code == 0
        done = run("migrate", INI, "--status", "--json", LIVEBACKEND_DATABASE_URL=url)
        assert all(each["is_applied"] for each in json.loads(done.stdout)["migrations"])

    def test_a_database_that_is_away_is_one_message(self) -> None:
        url = "postgresql+psycopg2://nobody@127.0.0.1:1/nothing"
        done = run("migrate", INI, LIVEBACKEND_DATABASE_URL=url)
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: the database cannot be used:\n  database.url: ")

    def test_faulty_settings_are_one_message(self) -> None:
        done = run("migrate", INI, LIVEBACKEND_CODES_TTL_S="never")
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: the settings are faulty:\n  codes.ttl_s: ")
