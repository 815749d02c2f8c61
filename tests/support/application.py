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

DEVELOPMENT_INI = Path(livebackend.__file__).parent.parent / "development.ini"
PRODUCTION_INI = DEVELOPMENT_INI.with_name("production.ini")
# Signing secret in development.ini.
DEVELOPMENT_SECRET = "for-development-only-not-a-secret-0000"

# A cache saves time: `get_appsettings` searches all installed packages for ini file loaders.
appsettings = cache(get_appsettings)


def app_settings(
    database_url: str, data_dir: Path, file: Path = DEVELOPMENT_INI, **changed: str
) -> dict[str, str]:
    """Return the settings of an ini file, with changes for tests.

    A double underscore in a name of `changed` means a dot: `codes__reply="ticket"` sets
    `codes.reply`.
    """
    ini = dict(appsettings(str(file))) | {
        "database.url": database_url,
        "database.migrate": "false",
        "database.connections": "30",
        "data.dir": str(data_dir),
        # Password hashes are fast: bcrypt has its lowest cost, and 40 hashes can run concurrently.
        "passwords.cost": "4",
        "passwords.max_concurrent": "40",
        "metrics.address": "",
        # No housekeeping task changes rows during a test.
        "streams.check_interval_s": "0",
    }
    return ini | {name.replace("__", "."): value for name, value in changed.items()}


def create_app(
    database_url: str, data_dir: Path, file: Path = DEVELOPMENT_INI, **changed: str
) -> App:
    """Create an application; the caller must close its `registry.services`."""
    ini = app_settings(database_url, data_dir, file, **changed)
    app: App = livebackend.main(appsettings(str(file)).global_conf, **ini)
    app.registry.registerHandler(check_response, (NewResponse,))
    return app


def replace_services(app: App, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    """Replace the services in `changed` until the test ends."""
    monkeypatch.setattr(app.registry, "services", replace(app.registry.services, **changed))
