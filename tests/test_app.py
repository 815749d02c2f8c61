"""Starting the application."""

from pathlib import Path

import pytest

from livebackend.gateways.sms import EmbeddedSms
from livebackend.settings import Settings
from tests.conftest import create_app


def test_start_builds_each_gateway_once(
    database_url: str, var_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[EmbeddedSms] = []

    def from_settings(cls: type[EmbeddedSms], settings: Settings) -> EmbeddedSms:
        built.append(cls())
        return built[-1]

    monkeypatch.setattr(EmbeddedSms, "from_settings", classmethod(from_settings))
    house = create_app(database_url, var_dir).registry.house
    house.close()
    assert built == [house.sms]
