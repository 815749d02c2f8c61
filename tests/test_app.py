"""Tests of the start of the application."""

from pathlib import Path

import pytest

from livebackend.config.settings import Settings
from livebackend.development.sms import DevelopmentSms
from tests.support.application import create_app


def test_application_start_creates_each_gateway_once(
    database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created_gateways: list[DevelopmentSms] = []

    def from_settings(cls: type[DevelopmentSms], settings: Settings) -> DevelopmentSms:
        created_gateways.append(cls())
        return created_gateways[-1]

    monkeypatch.setattr(DevelopmentSms, "from_settings", classmethod(from_settings))
    services = create_app(database_url, data_dir).registry.services
    services.close()
    assert created_gateways == [services.gateways.sms]
