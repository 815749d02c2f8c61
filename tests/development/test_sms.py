"""The development SMS gateway."""

from livebackend.development.sms import DevelopmentSms
from livebackend.gateways.sms.protocol import SmsGateway


def test_development_sms_implements_the_gateway_protocol() -> None:
    assert isinstance(DevelopmentSms(), SmsGateway)


def test_development_sms_stores_the_last_1000_messages() -> None:
    sms = DevelopmentSms()
    for n in range(1001):
        sms.send("13800000001", f"{n:04}")
    assert len(sms.sent) == 1000
    assert sms.sent[0].code == "0001"
