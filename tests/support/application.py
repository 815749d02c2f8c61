"""Applications for the tests, with changed settings or services."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pyramid.events import NewResponse
from pyramid.paster import get_appsettings

import livebackend
from tests.support.api import App, check_response

RECORDING_EVENTS = "tests.support.recording_events.RecordingEvents"
DEVELOPMENT_INI = Path(livebackend.__file__).parent.parent / "development.ini"
PRODUCTION_INI = DEVELOPMENT_INI.with_name("production.ini")
# Signing secret in development.ini.
DEVELOPMENT_SECRET = "for-development-only-not-a-secret-0000"

# Cached, because each call of `get_appsettings` searches all installed packages for file loaders.
read_ini = cache(get_appsettings)


def app_settings(
    database_url: str, data_dir: Path, file: Path = DEVELOPMENT_INI, **changed_settings: str
) -> dict[str, str]:
    """Return the settings of an ini file, with changes for tests.

    A double underscore in a name of `changed_settings` means a dot: `codes__reply="ticket"` sets
    `codes.reply`.
    """
    settings = dict(read_ini(str(file))) | {
        "database.url": database_url,
        "database.migrate": "false",
        "database.connections": "30",
        "data.dir": str(data_dir),
        # Password hashes are fast: bcrypt has its lowest cost, and 40 hashes can run concurrently.
        "passwords.cost": "4",
        "passwords.max_concurrent": "40",
        "metrics.address": "",
        "events.gateway": RECORDING_EVENTS,
        # 0 disables housekeeping, whose tasks could change rows during a test.
        "streams.check_interval_s": "0",
    }
    return settings | {name.replace("__", "."): value for name, value in changed_settings.items()}


def create_app(
    database_url: str, data_dir: Path, file: Path = DEVELOPMENT_INI, **changed_settings: str
) -> App:
    """Create an application whose relay is closed: its events would be missing in other tests.

    The caller must close its `registry.services`.
    """
    settings = app_settings(database_url, data_dir, file, **changed_settings)
    app: App = livebackend.main(read_ini(str(file)).global_conf, **settings)
    app.registry.registerHandler(check_response, (NewResponse,))
    if relay := app.registry.services.relay:
        relay.close()
    return app


def replace_services(app: App, monkeypatch: pytest.MonkeyPatch, **replacements: Any) -> None:
    """Replace the services that the keyword arguments name, until the test ends."""
    monkeypatch.setattr(app.registry, "services", replace(app.registry.services, **replacements))
