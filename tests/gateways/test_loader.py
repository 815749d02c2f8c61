"""Loading gateways by the dotted names of their classes."""

import pytest

from livebackend.config.settings import Settings
from livebackend.container import make_gateways, make_usable_gateways
from livebackend.gateways.events.nchan import NchanEvents
from livebackend.gateways.events.protocol import EventsFailed
from tests.support.settings import REQUIRED_SETTINGS, UNSAFE_SETTINGS

SMS = {"sms.gateway": "livebackend.development.sms.DevelopmentSms"}


def test_two_gateways_of_one_provider_are_a_settings_error() -> None:
    class_name = "livebackend.development.payments.DevelopmentPayments"
    duplicates = {
        "sms.gateway": "livebackend.development.sms.DevelopmentSms",
        "payments.gateway": f"{class_name} {class_name}",
    }
    settings = Settings.load({**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **duplicates}, {})
    with pytest.raises(ValueError, match="names more than one gateway of the provider embedded"):
        make_gateways(settings)


@pytest.mark.parametrize("gateway", ["", " "])
def test_events_are_disabled_without_a_gateway(gateway: str) -> None:
    values = {**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **SMS, "events.gateway": gateway}
    assert make_gateways(Settings.load(values, {})).events is None


def test_nchan_without_a_secret_is_a_settings_error() -> None:
    class_name = "livebackend.gateways.events.nchan.NchanEvents"
    values = {**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **SMS, "events.gateway": class_name}
    with pytest.raises(ValueError, match=r"events\.gateway: .* empty: events\.publish_secret"):
        make_gateways(Settings.load(values, {}))
    secret = {"events.publish_secret": "s" * 32}
    gateways = make_gateways(Settings.load({**values, **secret}, {}))
    assert isinstance(gateways.events, NchanEvents)
    assert gateways.child_process_engine is None


def test_local_events_need_no_permission_for_development_gateways() -> None:
    class_name = "livebackend.development.local_events.LocalEvents"
    sms = "tests.support.fake_gateways.FailingSms"
    values = {**REQUIRED_SETTINGS, "sms.gateway": sms, "events.gateway": class_name}
    gateways = make_gateways(Settings.load(values, {}))
    assert gateways.child_process_engine
    assert gateways.child_process_engine.stream_url == "http://127.0.0.1:6545/events"


def test_event_server_on_all_addresses_needs_a_public_url() -> None:
    values = {
        **REQUIRED_SETTINGS,
        **UNSAFE_SETTINGS,
        **SMS,
        "events.gateway": "livebackend.development.local_events.LocalEvents",
        "events.address": "0.0.0.0:6545",
        "server.allow_direct_clients": "true",
    }
    with pytest.raises(ValueError, match=r"required settings are empty: events\.public_url"):
        make_gateways(Settings.load(values, {}))
    url = {"events.public_url": "http://192.0.2.1:6545/events"}
    gateways = make_gateways(Settings.load({**values, **url}, {}))
    # This process publishes to the event server of its machine.
    assert gateways.child_process_engine
    assert gateways.child_process_engine.stream_url == "http://127.0.0.1:6545/events"


def test_event_engine_that_cannot_be_loaded_is_replaced_for_commands() -> None:
    values = {**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **SMS, "events.gateway": "no.such.Events"}
    gateways = make_usable_gateways(Settings.load(values, {}))
    assert gateways.child_process_engine is None
    assert gateways.events
    with pytest.raises(EventsFailed, match="cannot be loaded"):
        gateways.events.close_channel("user.1")
