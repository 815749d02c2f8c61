"""Settings of live events: the gateway is optional, and costs one connection for each worker."""

import pytest

from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings
from livebackend.container import make_gateways, make_usable_gateways, required_connections
from livebackend.gateways.events.protocol import ChannelEvent, EventsFailed, PublishedEvent
from tests.support.application import RECORDING_EVENTS
from tests.support.settings import REQUIRED_SETTINGS, UNSAFE_SETTINGS

DEVELOPMENT_SMS = "livebackend.development.sms.DevelopmentSms"


def settings(**changed_settings: str) -> Settings:
    values = {name.replace("__", "."): value for name, value in changed_settings.items()}
    return Settings.load(
        {**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, "sms.gateway": DEVELOPMENT_SMS, **values}, {}
    )


def test_live_events_are_disabled_by_default() -> None:
    assert make_gateways(settings()).events is None
    assert make_gateways(settings(events__gateway=" ")).events is None
    assert make_gateways(settings(events__gateway=RECORDING_EVENTS)).events is not None


def test_relay_needs_a_connection_in_each_worker() -> None:
    connections = [
        required_connections(settings(server__workers="3", events__gateway=gateway))
        for gateway in ("", RECORDING_EVENTS)
    ]
    assert connections[1] - connections[0] == 3


@pytest.mark.parametrize(
    ("class_name", "problem"),
    [
        ("tests.support.missing.Events", "cannot be loaded"),
        (DEVELOPMENT_SMS, "does not implement EventEngine"),
    ],
)
def test_unusable_event_gateway_is_a_settings_error(class_name: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"events.gateway: .*{problem}"):
        make_gateways(settings(events__gateway=class_name))


def test_command_works_with_an_unusable_event_gateway_whose_calls_fail() -> None:
    engine = make_usable_gateways(settings(events__gateway="tests.support.missing.Events")).events
    assert engine
    with pytest.raises(EventsFailed):
        engine.publish([ChannelEvent("user.1", PublishedEvent("x", b"{}"))])
