"""The ini file that nearly every command is given, and what is opened by it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from pyramid import paster
from pyramid.paster import get_appsettings

from livebackend.cli.output import faults_told
from livebackend.config.deprecated_names import configure_renamed_loggers
from livebackend.config.settings import Settings, with_own_address
from livebackend.container import Services, build_services, make_gateways, open_database
from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated

ini_argument = click.argument("ini", type=click.Path(exists=True, dir_okay=False, path_type=Path))


def setup_logging(ini: Path) -> None:
    """Configure logging by the sections of an ini file, deprecated names included."""
    paster.setup_logging(str(ini))
    configure_renamed_loggers()


def section(ini: Path) -> dict[str, Any]:
    """The application's section of an ini file."""
    found = get_appsettings(str(ini), name="main")
    return with_own_address(found, found.global_conf)


def load(ini: Path) -> Settings:
    """The settings of an ini file, overridden by the environment. Raises SettingsError."""
    return Settings.load(section(ini), os.environ)


@contextmanager
def opened_database(settings: Settings) -> Iterator[Database]:
    """The database of the settings, given back in the end. Raises SettingsError."""
    database = open_database(settings)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def opened_services(ini: Path) -> Iterator[Services]:
    """All that a request finds; what is wrong with it ends the command with one message."""
    with faults_told():
        setup_logging(ini)
        settings = load(ini)
        gateways = make_gateways(settings)
        services = build_services(settings, open_database(settings), gateways)
        try:
            check_migrated(services.database)
            yield services
        finally:
            services.close()
