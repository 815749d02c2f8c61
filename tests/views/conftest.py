"""Fixtures for applications whose stream provider is a fake server on loopback."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from livebackend.config.settings import Settings
from livebackend.container import build_services, make_gateways
from livebackend.database.engine import Database
from tests.support.api import App
from tests.support.application import DEVELOPMENT_INI, app_settings
from tests.support.streams import provider_settings


@pytest.fixture
def new_provider_app(
    new_app: Callable[..., App],
    database_url: str,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., App]]:
    """Create applications with a given stream gateway class and provider URL.

    Each test gets new services and shares the rest of the application, which takes 0.1 s to create.
    """

    def stream_settings(gateway: type, url: str) -> dict[str, str]:
        settings = {name.replace(".", "__"): text for name, text in provider_settings(url).items()}
        return settings | {"streams__gateway": f"livebackend.gateways.streams.{gateway.__name__}"}

    with ExitStack() as cleanup:

        def create(gateway: type, url: str, **changed: str) -> App:
            app = new_app(**stream_settings(gateway, "http://127.0.0.1:1"), **changed)
            ini = app_settings(
                database_url, data_dir, DEVELOPMENT_INI, **stream_settings(gateway, url), **changed
            )
            loaded = Settings.load(ini, {})
            # A shared database would add its connections to the metrics of every application.
            database = Database(database_url, pool_size=30)
            services = build_services(loaded, database, make_gateways(loaded))
            cleanup.callback(services.close)
            monkeypatch.setattr(app.registry, "services", services)
            return app

        yield create
