"""What an operator types: `livebackend …`."""

import os
from pathlib import Path

import click
from pyramid.paster import setup_logging

from livebackend.app import build
from livebackend.check import checked_settings
from livebackend.cli.ini import section
from livebackend.cli.ledger import ledger
from livebackend.cli.serve import serve
from livebackend.db import open_database
from livebackend.migrate import check_migrated
from livebackend.migrate import migrate as run_migrations
from livebackend.settings import Settings, SettingsError


@click.group()
def main() -> None:
    """Runs livebackend."""


main.add_command(ledger)
main.add_command(serve)

_ini = click.argument("ini", type=click.Path(exists=True, dir_okay=False, path_type=Path))


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


@main.command()
@_ini
def sweep(ini: Path) -> None:
    """Close the rooms of those who vanished, once; see the setting streams.sweep_s.

    Example: livebackend sweep production.ini
    """
    setup_logging(str(ini))
    try:
        settings = Settings.load(section(ini), os.environ)
        house = build(settings, open_database(settings))
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    try:
        check_migrated(house.database)
        swept = house.streams.sweep()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    finally:
        house.close()
    click.echo(
        f"{swept.looked_at} rooms looked at, {swept.closed} closed,"
        f" {swept.disabled} streams disabled"
    )
    if swept.failed:
        raise click.ClickException("the provider failed; what is left is the next round's")


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
