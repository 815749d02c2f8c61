"""The migration runner: retries, concurrent runs, and failed migrations."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from sqlalchemy import text

from livebackend.config.errors import SettingsError
from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated, migrate, migration_status, pending_sql
from tests.support.api import run_concurrently
from tests.support.application import DEVELOPMENT_INI
from tests.support.schema import catalog


@pytest.fixture
def empty_database(new_database: Callable[[str], str], worker_id: str) -> Iterator[Database]:
    """A database without tables."""
    database = Database(new_database(f"empty_{worker_id}"))
    yield database
    database.close()


def test_migrating_twice_changes_nothing(empty_database: Database) -> None:
    migrate(empty_database)
    with empty_database.engine.connect() as connection:
        catalog_before = catalog(connection)
    migrate(empty_database)
    with empty_database.engine.connect() as connection:
        assert catalog(connection) == catalog_before


@pytest.mark.processes
def test_five_concurrent_runners_apply_each_migration_once(empty_database: Database) -> None:
    url = empty_database.engine.url.render_as_string(hide_password=False)
    program = (
        "from livebackend.database.engine import Database;"
        "from livebackend.database.migrations import migrate;"
        f"migrate(Database({url!r}))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(5)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 5
    check_migrated(empty_database)


@pytest.mark.processes
def test_checkout_finds_its_migrations_without_an_editable_installation(
    empty_database: Database,
) -> None:
    url = empty_database.engine.url.render_as_string(hide_password=False)
    program = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]\n"
        "from livebackend.database.engine import Database\n"
        "from livebackend.database.migrations import migrate\n"
        "import importlib.util; assert not importlib.util.find_spec('livebackend.migrations')\n"
        f"migrate(Database({url!r}))"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=DEVELOPMENT_INI.parent, check=True, timeout=60
    )
    check_migrated(empty_database)


def test_check_migrated_fails_on_a_database_without_migrations(empty_database: Database) -> None:
    with pytest.raises(SettingsError, match="run `livebackend migrate`"):
        check_migrated(empty_database)


@pytest.mark.processes
def test_process_imports_alembic_only_to_run_a_missing_migration(empty_database: Database) -> None:
    url = empty_database.engine.url.render_as_string(hide_password=False)
    program = (
        "import sys\n"
        "from livebackend.database.engine import Database\n"
        "from livebackend.database.migrations import check_migrated, migrate\n"
        f"database = Database({url!r})\n"
        "migrate(database)\n"
        "check_migrated(database)\n"
        "print('alembic' in sys.modules)"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=DEVELOPMENT_INI.parent,
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for _ in range(2)
    ]
    assert outputs == [b"True\n", b"False\n"]


def test_each_migration_follows_the_previous_one_and_its_file_begins_with_its_revision() -> None:
    previous_revision = None
    folder = DEVELOPMENT_INI.parent / "migrations/versions"
    for file in sorted(folder.glob("[0-9]*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        values = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id in ("revision", "down_revision")
        }
        assert values == {"revision": file.name[:4], "down_revision": previous_revision}
        previous_revision = file.name[:4]
    assert previous_revision is not None


def test_migrations_import_nothing_of_the_application_except_their_steps() -> None:
    # The models and the services change, but an old migration must always do the same.
    allowed_modules = ("alembic", "sqlalchemy", "livebackend.database.online_migrations")
    migration_files = [
        file
        for file in (files("livebackend.migrations") / "versions").iterdir()
        if file.name.endswith(".py")
    ]
    assert {file.name for file in migration_files} >= {"1001_initial_schema.py"}
    for file in migration_files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module in allowed_modules


class TestRunner:
    """The migration runner, with migrations that the tests write."""

    @pytest.fixture
    def write_migration(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., None]:
        """A function that writes a migration; no other migrations exist."""
        (tmp_path / "versions").mkdir()
        shutil.copy(DEVELOPMENT_INI.parent / "migrations/env.py", tmp_path)
        monkeypatch.setattr("livebackend.database.migrations.migrations_folder", lambda: tmp_path)

        def write_migration(revision: str, body: str) -> None:
            previous_revision = f"{int(revision) - 1}" if int(revision) > 1001 else None
            (tmp_path / f"versions/{revision}.py").write_text(
                f'"""Migration {revision}"""\nfrom alembic import op\nrevision = {revision!r}\n'
                f"down_revision = {previous_revision!r}\ndef upgrade():\n    {body}\n"
            )

        return write_migration

    def test_migrations_before_a_failed_migration_stay_applied(
        self, write_migration: Callable[..., None], empty_database: Database
    ) -> None:
        write_migration("1001", "op.execute('CREATE TABLE one (id int)')")
        write_migration("1002", "op.execute('CREATE TABLE two (id int); SELECT 1/0')")
        with pytest.raises(SettingsError, match="division by zero"):
            migrate(empty_database)
        assert [migration.is_applied for migration in migration_status(empty_database)] == [
            True,
            False,
        ]
        assert tables(empty_database) == {"one"}
        write_migration("1002", "op.execute('CREATE TABLE two (id int)')")
        migrate(empty_database)
        assert tables(empty_database) == {"one", "two"}

    def test_index_can_be_created_concurrently_and_constraint_validated_later(
        self, write_migration: Callable[..., None], empty_database: Database
    ) -> None:
        write_migration("1001", "op.execute('CREATE TABLE one (id int)')")
        write_migration(
            "1002",
            "with op.get_context().autocommit_block():"
            " op.execute('CREATE INDEX CONCURRENTLY one_id ON one (id)')",
        )
        write_migration(
            "1003", "op.execute('ALTER TABLE one ADD CONSTRAINT c CHECK (id > 0) NOT VALID')"
        )
        write_migration("1004", "op.execute('ALTER TABLE one VALIDATE CONSTRAINT c')")
        migrate(empty_database)
        assert all(migration.is_applied for migration in migration_status(empty_database))

    @pytest.mark.processes
    def test_migration_that_cannot_lock_its_table_is_retried(
        self, write_migration: Callable[..., None], empty_database: Database
    ) -> None:
        write_migration("1001", "op.execute('CREATE TABLE one (id int)')")
        migrate(empty_database)
        write_migration("1002", "op.execute('ALTER TABLE one ADD COLUMN name text')")
        lines: list[str] = []
        with empty_database.engine.connect() as reader:
            reader.execute(text("SELECT * FROM one"))

            def report(line: str) -> None:
                lines.append(line)
                reader.rollback()

            migrate(empty_database, report=report)
        assert lines[0] == "another transaction has locked a table: the migration is tried again"
        assert lines[1].startswith("1002 Migration 1002 (after ")

    def test_database_of_a_later_version_has_no_pending_migrations(
        self, write_migration: Callable[..., None], empty_database: Database
    ) -> None:
        write_migration("1001", "op.execute('CREATE TABLE one (id int)')")
        migrate(empty_database)
        empty_database.run(
            lambda connection: connection.execute(
                text("UPDATE alembic_version SET version_num = '1002'")
            )
        )
        check_migrated(empty_database)
        assert [migration.is_applied for migration in migration_status(empty_database)] == [True]
        assert "CREATE TABLE" not in pending_sql(empty_database)

    @pytest.mark.processes
    def test_runner_waits_for_a_concurrent_runner(
        self, write_migration: Callable[..., None], empty_database: Database
    ) -> None:
        # The migration takes longer than a worker's statement timeout.
        write_migration("1001", "op.execute('CREATE TABLE one (id int); SELECT pg_sleep(3.5)')")
        run_concurrently(lambda: migrate(empty_database), lambda: migrate(empty_database))
        assert [migration.is_applied for migration in migration_status(empty_database)] == [True]

    def test_sql_of_pending_migrations_is_returned_and_not_executed(
        self, write_migration: Callable[..., None], empty_database: Database
    ) -> None:
        write_migration("1001", "op.execute('CREATE TABLE one (id int)')")
        migrate(empty_database)
        write_migration("1002", "op.execute('CREATE TABLE two (id int)')")
        sql = pending_sql(empty_database)
        assert "CREATE TABLE two" in sql
        assert "CREATE TABLE one" not in sql
        assert tables(empty_database) == {"one"}


def tables(database: Database) -> set[str]:
    statement = text(
        "SELECT tablename FROM pg_tables"
        " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    )
    with database.engine.connect() as connection:
        return set(connection.execute(statement).scalars())
