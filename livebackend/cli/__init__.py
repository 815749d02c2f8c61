"""What an operator types: `livebackend …`."""

import os
from pathlib import Path
from typing import Any

import click
from pyramid.paster import get_appsettings, setup_logging

from livebackend.check import checked_settings
from livebackend.db import open_database
from livebackend.migrate import migrate as run_migrations
from livebackend.settings import Settings, SettingsError, with_own_address


@click.group()
def main() -> None:
    """Runs livebackend."""


_ini = click.argument("ini", type=click.Path(exists=True, dir_okay=False, path_type=Path))


def section(ini: Path) -> dict[str, Any]:
    """The application's section of an ini file."""
    found = get_appsettings(str(ini), name="main")
    return with_own_address(found, found.global_conf)


@main.command()
@_ini
def migrate(ini: Path) -> None:
    """Bring the database up to date.

    Example: livebackend migrate production.ini
    """
    setup_logging(str(ini))
    try:
        database = open_database(Settings.load(section(ini), os.environ))
        try:
            run_migrations(database)
        finally:
            database.close()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    click.echo("the database is up to date")


@main.command("check-config")
@_ini
def check_config(ini: Path) -> None:
    """Name every fault that would keep the server from starting.

    Example: livebackend check-config production.ini
    """
    try:
        checked_settings(section(ini), os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    click.echo("the settings are sound")
