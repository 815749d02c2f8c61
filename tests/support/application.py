"""Applications for the tests, with changed settings or services."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pyramid.events import NewResponse
from pyramid.paster import get_appsettings

import livebackend
from tests.support.api import App, check_reply

INI = Path(livebackend.__file__).parent.parent / "development.ini"
PRODUCTION_INI = INI.with_name("production.ini")
# The signing secret of development.ini.
DEVELOPMENT_SECRET = "for-development-only-not-a-secret-0000"

# Each call of `get_appsettings` searches all installed packages for ini file loaders.
appsettings = cache(get_appsettings)


def app_settings(
    database_url: str, var_dir: Path, file: Path = INI, **changed: str
) -> dict[str, str]:
    """Return the settings of an ini file, with changes for tests.

    `codes__reply="ticket"` sets `codes.reply`.
    """
    ini = dict(appsettings(str(file))) | {
        "database.url": database_url,
        "database.migrate": "false",
        "database.connections": "30",
        "var.dir": str(var_dir),
        # The lowest cost of bcrypt, and no queue for password hashing.
        "passwords.cost": "4",
        "passwords.at_once": "40",
        "metrics.listen": "",
        # No housekeeping task changes rows during a test.
        "streams.sweep_s": "0",
    }
    return ini | {name.replace("__", "."): value for name, value in changed.items()}


def create_app(database_url: str, var_dir: Path, file: Path = INI, **changed: str) -> App:
    """Create an application with these settings. The caller must close `registry.services`."""
    ini = app_settings(database_url, var_dir, file, **changed)
    app: App = livebackend.main(appsettings(str(file)).global_conf, **ini)
    app.registry.registerHandler(check_reply, (NewResponse,))
    return app


def replace_services(app: App, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    """Replace the services in `changed` until the test ends."""
    monkeypatch.setattr(app.registry, "services", replace(app.registry.services, **changed))
