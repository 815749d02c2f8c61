"""Loading gateways by the dotted names of their classes."""

import pytest

from livebackend.config.settings import Settings
from livebackend.container import make_gateways
from tests.support.settings import REQUIRED_SETTINGS, UNSAFE_SETTINGS


def test_two_gateways_of_one_provider_are_a_settings_error() -> None:
    class_name = "livebackend.development.payments.DevelopmentPayments"
    duplicates = {
        "sms.gateway": "livebackend.development.sms.DevelopmentSms",
        "payments.gateway": f"{class_name} {class_name}",
    }
    settings = Settings.load({**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **duplicates}, {})
    with pytest.raises(ValueError, match="names more than one gateway of the provider embedded"):
        make_gateways(settings)
