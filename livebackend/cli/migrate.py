"""`livebackend migrate`: run database migrations."""

from pathlib import Path

import click

from livebackend.cli.ini_file import ini_argument, load_settings, opened_database
from livebackend.cli.ini_logging import setup_logging
from livebackend.cli.output import align_columns, json_option, print_result, report_errors
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate as run_migrations
from livebackend.database.migrations import migration_status, pending_sql


@click.command()
@ini_argument
@click.option("--status", is_flag=True, help="List all migrations; change nothing.")
@click.option(
    "--dry-run", is_flag=True, help="Print the SQL of pending migrations; change nothing."
)
@json_option
def migrate(ini: Path, *, status: bool, dry_run: bool) -> None:
    """Run the pending database migrations.

    Each migration has its own transaction. The command waits while another process runs
    migrations. Servers of the previous version can continue to run.

    Example: livebackend migrate production.ini --status
    """
    with report_errors():
        setup_logging(ini)
        with opened_database(load_settings(ini)) as database:
            if status:
                _print_status(database)
            elif dry_run:
                sql = pending_sql(database)
                print_result(sql, sql=sql)
            else:
                run_migrations(database, report=lambda line: click.echo(line, err=True))
                print_result("the database is up to date", migrated=True)


def _print_status(database: Database) -> None:
    migrations = migration_status(database)
    rows = [
        (migration.revision, "applied" if migration.is_applied else "pending", migration.summary)
        for migration in migrations
    ]
    print_result(align_columns(rows), migrations=[migration._asdict() for migration in migrations])
