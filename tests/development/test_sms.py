"""Text messages."""

from livebackend.development.sms import DevelopmentSms
from livebackend.gateways.sms.protocol import SmsGateway


def test_the_embedded_one_is_a_gateway() -> None:
    assert isinstance(DevelopmentSms(), SmsGateway)


def test_it_keeps_the_newest_thousand() -> None:
    sms = DevelopmentSms()
    for n in range(1001):
        sms.send("13800000001", f"{n:04}")
    assert len(sms.sent) == 1000
    assert sms.sent[0].code == "0001"
