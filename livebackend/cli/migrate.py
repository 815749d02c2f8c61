"""`livebackend migrate`: the tables, brought up to date."""

from pathlib import Path

import click
from pyramid.paster import setup_logging

from livebackend.cli.ini import ini_argument, load, opened_database
from livebackend.cli.output import faults_told, json_option, say
from livebackend.migrate import migrate as run_migrations


@click.command()
@ini_argument
@json_option
def migrate(ini: Path) -> None:
    """Bring the database up to date.

    Example: livebackend migrate production.ini
    """
    setup_logging(str(ini))
    with faults_told(), opened_database(load(ini)) as database:
        run_migrations(database)
    say("the database is up to date", migrated=True)
