"""Starting the application."""

from pathlib import Path

import pytest

from livebackend.config.settings import Settings
from livebackend.development.sms import DevelopmentSms
from tests.support.application import create_app


def test_start_builds_each_gateway_once(
    database_url: str, var_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[DevelopmentSms] = []

    def from_settings(cls: type[DevelopmentSms], settings: Settings) -> DevelopmentSms:
        built.append(cls())
        return built[-1]

    monkeypatch.setattr(DevelopmentSms, "from_settings", classmethod(from_settings))
    services = create_app(database_url, var_dir).registry.services
    services.close()
    assert built == [services.gateways.sms]
