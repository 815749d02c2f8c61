"""Whether a server could start with its settings, told without starting it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from livebackend.db import Database
from livebackend.gateways import Gateways, make_gateways
from livebackend.migrate import check_migrated
from livebackend.settings import Settings, SettingsError


class Checked(NamedTuple):
    """Settings with which a server can start, and the gateways that they name."""

    settings: Settings
    gateways: Gateways


def checked_settings(ini: Mapping[str, Any], environment: Mapping[str, str]) -> Checked:
    """The settings of an ini section, overridden by the environment, and their gateways.

    Raises SettingsError, which names every fault at once: of the settings, of the gateways, and of
    the database unless it is embedded, which begins with the start.
    """
    faults: list[str] = []
    settings = gateways = None
    try:
        settings = Settings.load(ini, environment)
        gateways = make_gateways(settings)
    except SettingsError as error:
        faults.extend(error.faults)
    given = Settings.given(ini, environment)
    url = given.get("database.url", "embedded")
    if url != "embedded":
        migrated = settings is None or not settings.database_migrate
        faults.extend(_faults_of_database(url, migrated=migrated))
    if "var.dir" in given:
        faults.extend(_faults_of_folder(Path(given["var.dir"])))
    if settings is None or gateways is None or faults:
        raise SettingsError(*faults)
    return Checked(settings, gateways)


def _faults_of_folder(folder: Path) -> tuple[str, ...]:
    """Whether files can be kept in it, or it can be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ()
    return (f"var.dir: nothing can be kept in {folder}",)


def _faults_of_database(url: str, *, migrated: bool) -> tuple[str, ...]:
    try:
        database = Database(url, pool_size=1)
    except SettingsError as error:
        return error.faults
    try:
        check_migrated(database, reachable_only=not migrated)
    except SettingsError as error:
        return error.faults
    finally:
        database.close()
    return ()
