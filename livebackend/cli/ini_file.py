"""The ini file argument of commands, and the objects built from the ini file."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from pyramid.paster import get_appsettings
from pyramid.settings import asbool

from livebackend.cli.ini_logging import setup_logging, syntax_errors_converted
from livebackend.cli.output import report_errors
from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings, listen_address, with_default_public_url
from livebackend.container import (
    Services,
    build_services,
    checked_settings,
    make_gateways,
    make_usable_gateways,
    open_database,
)
from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated
from livebackend.monitoring.startup_checks import check_address_is_loopback

ini_argument = click.argument("ini", type=click.Path(exists=True, dir_okay=False, path_type=Path))


def read_section(ini: Path, options: Mapping[str, str] | None = None) -> Any:
    """Return the section `app:main` of an ini file, with `global_conf`. Raises SettingsError.

    `options` override the defaults of the file.
    """
    with syntax_errors_converted(ini):
        return get_appsettings(str(ini), name="main", options=options)


def app_section(ini: Path) -> dict[str, Any]:
    """Return the settings of an ini file. Raises SettingsError."""
    settings = read_section(ini)
    return with_default_public_url(settings, settings.global_conf)


def check_section(
    section: Any, *, requires_database: bool = False
) -> tuple[Settings, tuple[str, int]]:
    """Return the valid settings of a section, and the address on which the server listens.

    Raises SettingsError with all errors, as described at `checked_settings`.
    """
    errors: list[str] = []
    address = settings = None
    try:
        address = listen_address(section.global_conf)
    except SettingsError as error:
        errors.extend(error.errors)
    try:
        settings = checked_settings(
            with_default_public_url(section, section.global_conf),
            os.environ,
            requires_database=requires_database,
        ).settings
    except SettingsError as error:
        errors.extend(error.errors)
    try:
        if address and not _permits_public_address(section):
            check_address_is_loopback(address[0])
    except SettingsError as error:
        errors.extend(error.errors)
    if address is None or settings is None or errors:
        raise SettingsError(*dict.fromkeys(errors))
    return settings, address


def _permits_public_address(section: Any) -> bool:
    """Return whether the settings permit a public address, also if other settings are wrong."""
    values = Settings.raw_values(section, os.environ)
    return bool(values.get("http.trusted_proxies")) or asbool(
        values.get("server.allow_direct_clients")
    )


def load_settings(ini: Path) -> Settings:
    """Return the settings of an ini file, overridden by the environment.

    Raises SettingsError.
    """
    return Settings.load(app_section(ini), os.environ)


@contextmanager
def opened_database(settings: Settings) -> Iterator[Database]:
    """Open the database of the settings, and close it after the `with` block.

    Raises SettingsError.
    """
    database = open_database(settings)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def opened_migrated_database(ini: Path) -> Iterator[Database]:
    """Open the database of an ini file; an error ends the command with one message."""
    with report_errors():
        setup_logging(ini)
        with opened_database(load_settings(ini)) as database:
            check_migrated(database)
            yield database


@contextmanager
def opened_services(ini: Path, *, needs_gateways: bool = True) -> Iterator[Services]:
    """Open all services of an ini file; an error ends the command with one message.

    Without `needs_gateways`, a gateway that cannot be loaded is only a warning, and there are no
    payment gateways.
    """
    with report_errors():
        setup_logging(ini)
        settings = load_settings(ini)
        gateways = (make_gateways if needs_gateways else make_usable_gateways)(settings)
        services = build_services(settings, open_database(settings), gateways)
        try:
            check_migrated(services.database)
            yield services
        finally:
            services.close()
