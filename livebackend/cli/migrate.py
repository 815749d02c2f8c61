"""`livebackend migrate`: run database migrations."""

from pathlib import Path

import click

from livebackend.cli.ini import ini_argument, load, opened_database, setup_logging
from livebackend.cli.output import columns, faults_told, json_option, say
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

    Each migration has its own transaction. The command waits for another process that migrates.
    Servers of the previous version can run meanwhile.

    Example: livebackend migrate production.ini --status
    """
    setup_logging(ini)
    with faults_told(), opened_database(load(ini)) as database:
        if status:
            _print_status(database)
        elif dry_run:
            sql = pending_sql(database)
            say(sql, sql=sql)
        else:
            run_migrations(database, report=lambda line: click.echo(line, err=True))
            say("the database is up to date", migrated=True)


def _print_status(database: Database) -> None:
    migrations = migration_status(database)
    rows = [
        (migration.revision, "applied" if migration.is_applied else "pending", migration.summary)
        for migration in migrations
    ]
    say(columns(rows), migrations=[migration._asdict() for migration in migrations])
