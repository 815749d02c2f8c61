"""Text messages."""

from livebackend.core.masking import masked
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


def test_a_masked_phone_keeps_its_ends() -> None:
    assert masked("13812345678") == "138****5678"
