"""Whether a server could start with its settings, told without starting it."""

from collections.abc import Mapping
from typing import Any

from livebackend.db import Database
from livebackend.gateways import make_gateways
from livebackend.migrate import check_migrated
from livebackend.settings import Settings, SettingsError


def checked_settings(ini: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """The settings of an ini section, overridden by the environment.

    Raises SettingsError, which names every fault at once: of the settings, of the gateways, and of
    the database unless it is embedded, which begins with the start.
    """
    faults: list[str] = []
    given = Settings.given(ini, environment)
    try:
        settings = Settings.load(ini, environment)
        make_gateways(settings)
    except SettingsError as error:
        faults.extend(error.faults)
    url = given.get("database.url", "embedded")
    if url != "embedded":
        faults.extend(_faults_of(url, migrated=given.get("database.migrate") != "true"))
    if faults:
        raise SettingsError(*faults)
    return settings


def _faults_of(url: str, *, migrated: bool) -> tuple[str, ...]:
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
