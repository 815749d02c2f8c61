"""A database of a version before the first release is rejected and not changed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from livebackend.config.errors import SettingsError
from livebackend.database.engine import Database
from livebackend.database.migrations import (
    UnsupportedSchema,
    check_migrated,
    migrate,
    migration_status,
    pending_sql,
)
from tests.support.application import DEVELOPMENT_INI
from tests.support.commands import Operator

DEVELOPMENT_REVISIONS = [f"{number:04}" for number in range(1, 16)]
EXPECTED_ERROR = (
    "database.url: the database has the tables of a development version before the first release"
    " (migration 0015), which cannot be upgraded: create a new, empty database"
)
_TABLES = text(
    """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = 'public' ORDER BY 1, 2
    """
)
_ROWS = text("SELECT version_num FROM alembic_version UNION ALL SELECT name FROM leases")


@pytest.fixture
def old_database(new_database: Callable[[str], str], worker_id: str) -> Iterator[Database]:
    """A database at migration 0015; a test that changes the database fails."""
    database = Database(new_database(f"old_{worker_id}"))
    with database.engine.begin() as connection:
        connection.execute(
            text(
                """
                CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
                INSERT INTO alembic_version VALUES ('0015');
                CREATE TABLE leases (name varchar(50) PRIMARY KEY);
                INSERT INTO leases VALUES ('sweeper')
                """
            )
        )
    yield database
    assert tables_and_rows(database) == (
        [("alembic_version", "version_num"), ("leases", "name")],
        ["0015", "sweeper"],
    )
    database.close()


def tables_and_rows(database: Database) -> tuple[list[tuple[str, str]], list[str]]:
    with database.engine.connect() as connection:
        tables = [(row[0], row[1]) for row in connection.execute(_TABLES)]
        return tables, list(connection.execute(_ROWS).scalars())


@pytest.mark.parametrize(
    "migration_function", [check_migrated, migrate, migration_status, pending_sql]
)
def test_migration_functions_reject_a_development_version(
    migration_function: Callable[..., Any], old_database: Database
) -> None:
    with pytest.raises(UnsupportedSchema) as raised:
        migration_function(old_database)
    (error,) = raised.value.errors
    assert error.startswith(EXPECTED_ERROR)


def test_check_before_automatic_migrations_rejects_a_development_version(
    old_database: Database,
) -> None:
    with pytest.raises(UnsupportedSchema):
        check_migrated(old_database, reachable_only=True)


@pytest.mark.parametrize("revision", DEVELOPMENT_REVISIONS)
def test_every_development_version_is_rejected(revision: str, old_database: Database) -> None:
    with old_database.engine.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
    with pytest.raises(SettingsError, match=rf"\(migration {revision}\)"):
        check_migrated(old_database)
    with old_database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0015'"))


def test_no_migration_has_the_id_of_a_development_version() -> None:
    script_directory = ScriptDirectory(str(DEVELOPMENT_INI.parent / "migrations"))
    revisions = {script.revision for script in script_directory.walk_revisions()}
    assert revisions
    assert revisions.isdisjoint(DEVELOPMENT_REVISIONS)


@pytest.mark.parametrize("migrate_setting", ["true", "false"])
def test_application_does_not_start_with_a_development_version(
    migrate_setting: str, old_database: Database, new_app: Any
) -> None:
    url = old_database.engine.url.render_as_string(hide_password=False)
    with pytest.raises(SystemExit) as raised:
        new_app(database__url=url, database__migrate=migrate_setting)
    assert f"\n  {EXPECTED_ERROR}" in str(raised.value)


@pytest.mark.parametrize(
    "command",
    ["migrate", "migrate --status", "migrate --dry-run", "check-config", "serve", "room list"],
)
def test_commands_reject_a_development_version_with_an_error_message(
    command: str, old_database: Database, tmp_path: Path
) -> None:
    name, *options = command.split(" --")
    arguments = [f"--{option}" for option in options]
    result = operator(old_database, tmp_path).run(name, *arguments, code=1)
    assert f"\n  {EXPECTED_ERROR}" in result.stderr
    assert result.stdout == ""


def test_doctor_reports_a_development_version_and_the_remedy(
    old_database: Database, tmp_path: Path
) -> None:
    results = operator(old_database, tmp_path).run_json("doctor", code=1)["checks"]
    (result,) = [result for result in results if result["check"] == "migrations"]
    assert "development version before the first release" in result["message"]
    assert result["remedy"].startswith("Create a new, empty database")


def operator(database: Database, folder: Path) -> Operator:
    return Operator(database.engine.url.render_as_string(hide_password=False), folder)
