"""`livebackend migrate`: bring the database up to date."""

from pathlib import Path

import click

from livebackend.cli.ini import ini_argument, load, opened_database, setup_logging
from livebackend.cli.output import columns, faults_told, json_option, say
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate as run_migrations
from livebackend.database.migrations import migration_status, pending_sql


@click.command()
@ini_argument
@click.option("--status", is_flag=True, help="List the migrations; change nothing.")
@click.option("--dry-run", is_flag=True, help="Print the SQL of the missing ones; change nothing.")
@json_option
def migrate(ini: Path, *, status: bool, dry_run: bool) -> None:
    """Run the missing migrations, each in a transaction of its own.

    It waits for another process that migrates. Servers of the version before can go on meanwhile.

    Example: livebackend migrate production.ini --status
    """
    setup_logging(ini)
    with faults_told(), opened_database(load(ini)) as database:
        if status:
            _say_status(database)
        elif dry_run:
            sql = pending_sql(database)
            say(sql, sql=sql)
        else:
            run_migrations(database, report=lambda line: click.echo(line, err=True))
            say("the database is up to date", migrated=True)


def _say_status(database: Database) -> None:
    found = migration_status(database)
    rows = [
        (each.revision, "applied" if each.is_applied else "missing", each.summary) for each in found
    ]
    say(columns(rows), migrations=[each._asdict() for each in found])
