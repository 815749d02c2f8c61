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
    """A function that creates an app for a stream gateway class and a provider URL.

    Each test gets new services. The tests share the rest of the application, because creating it
    takes 0.1 s.
    """

    def stream_settings(
        gateway_class: type, url: str, other_settings: dict[str, str]
    ) -> dict[str, str]:
        settings = {name.replace(".", "__"): text for name, text in provider_settings(url).items()}
        return {
            **settings,
            "streams__gateway": f"livebackend.gateways.streams.{gateway_class.__name__}",
            **other_settings,
        }

    with ExitStack() as cleanup:

        def create_provider_app(gateway_class: type, url: str, **other_settings: str) -> App:
            app = new_app(**stream_settings(gateway_class, "http://127.0.0.1:1", other_settings))
            ini_settings = app_settings(
                database_url,
                data_dir,
                DEVELOPMENT_INI,
                **stream_settings(gateway_class, url, other_settings),
            )
            settings = Settings.load(ini_settings, {})
            # Each application gets a new Database object: the metrics of an application include all
            # connections of its Database object.
            database = Database(database_url, pool_size=30)
            services = build_services(settings, database, make_gateways(settings))
            cleanup.callback(services.close)
            services.database_gate.try_to_open()
            monkeypatch.setattr(app.registry, "services", services)
            return app

        yield create_provider_app
