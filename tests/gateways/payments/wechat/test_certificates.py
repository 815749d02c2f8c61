"""WeChat Pay's platform certificates: look-ups, their rate limit, and expiry."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import pytest

from livebackend.gateways.payments.protocol import InvalidSignature, PaymentFailed, ProviderPayment
from livebackend.gateways.payments.wechat.certificates import LOOKUP_PERIOD_S
from livebackend.gateways.payments.wechat.gateway import WechatPayments
from tests.support.wechat_server import (
    ORDER,
    FakeResponse,
    FakeWechatPay,
    NewGateway,
    Signer,
    rsa_key,
)

PLACE_PATH = "/v3/pay/transactions/app"
UNKNOWN_SERIAL_NUMBER = "ABCDEF"
CERTIFICATES_PATH = "/v3/certificates"

# A function that makes the fake server fail each look-up of certificates.
LookupFailure = Callable[[FakeWechatPay], None]


@dataclass
class Clock:
    """A clock that the test advances."""

    now_s: float

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
def payments(
    certificate_settings: dict[str, str],
    new_gateway: NewGateway,
    clock: Clock,
    wechat: FakeWechatPay,
) -> WechatPayments:
    """A gateway whose next certificate look-up is permitted by the rate limit."""
    payments = new_gateway(certificate_settings, clock=clock, monotonic=clock)
    clock.now_s += LOOKUP_PERIOD_S
    wechat.requests.clear()
    return payments


def respond_with(response: FakeResponse) -> LookupFailure:
    return lambda wechat: setattr(wechat, "certificates_response", response)


def time_out_lookups(wechat: FakeWechatPay) -> None:
    wechat.delay_s[CERTIFICATES_PATH] = 10


def list_malformed_entry(malformed_entry: object) -> LookupFailure:
    """Return a failure: the server lists a valid certificate and a malformed entry."""

    def fail(wechat: FakeWechatPay) -> None:
        respond_with(FakeResponse(200, {"data": [Signer.new(3).list_entry(), malformed_entry]}))(
            wechat
        )

    return fail


def list_expired_certificate(wechat: FakeWechatPay) -> None:
    expired_signer = Signer.new(3, valid_until=timedelta(hours=-1))
    respond_with(FakeResponse(200, {"data": [expired_signer.list_entry()]}))(wechat)


FAILURE_BY_NAME: dict[str, LookupFailure] = {
    "500": respond_with(FakeResponse(500, {"code": "SYSTEM_ERROR"})),
    "timeout": time_out_lookups,
    "invalid JSON": respond_with(FakeResponse(200, b"<html>")),
    "deep JSON": respond_with(FakeResponse(200, b"[" * 100_000)),
    "empty list": respond_with(FakeResponse(200, {"data": []})),
    "no list": respond_with(FakeResponse(200, {})),
    "null": respond_with(FakeResponse(200, {"data": None})),
    "redirect": respond_with(FakeResponse(302, headers={"Location": "https://example.com/"})),
    "2 MB": respond_with(FakeResponse(200, b" " * 2_000_000)),
    "malformed entry": list_malformed_entry({}),
    "malformed encryption": list_malformed_entry(
        {"encrypt_certificate": {"algorithm": "AEAD_AES_256_GCM"}}
    ),
    "other encryption": list_malformed_entry({"encrypt_certificate": {"algorithm": "none"}}),
    "only an expired certificate": list_expired_certificate,
}


@pytest.fixture(params=list(FAILURE_BY_NAME))
def fail_lookups(
    request: pytest.FixtureRequest, wechat: FakeWechatPay, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """A function that makes all certificate look-ups fail."""
    if request.param == "timeout":
        monkeypatch.setattr(
            "livebackend.gateways.payments.wechat.certificates.LOOKUP_TIMEOUT_S", 0.3
        )
    failure = FAILURE_BY_NAME[request.param]
    return lambda: failure(wechat)


def verify_notification(
    payments: WechatPayments, wechat: FakeWechatPay, clock: Clock, *, signing_key_id: str = ""
) -> ProviderPayment | None:
    headers, body = wechat.notification(signing_key_id=signing_key_id, signed_at=clock.now_s)
    return payments.verify_notification(headers, body)


def assert_unknown_serial(
    payments: WechatPayments, wechat: FakeWechatPay, clock: Clock, *, signing_key_id: str
) -> None:
    with pytest.raises(InvalidSignature, match="serial"):
        verify_notification(payments, wechat, clock, signing_key_id=signing_key_id)


class TestFailedLookup:
    def test_notification_signed_by_a_known_certificate_is_still_accepted(
        self,
        fail_lookups: Callable[[], None],
        payments: WechatPayments,
        wechat: FakeWechatPay,
        clock: Clock,
    ) -> None:
        fail_lookups()
        for _ in range(3):
            assert_unknown_serial(payments, wechat, clock, signing_key_id=UNKNOWN_SERIAL_NUMBER)
            assert verify_notification(payments, wechat, clock)
            clock.now_s += LOOKUP_PERIOD_S / 2
            assert verify_notification(payments, wechat, clock)
            clock.now_s += LOOKUP_PERIOD_S / 2
        assert wechat.certificate_lookups == 3

    def test_response_with_an_unknown_serial_number_keeps_known_certificates(
        self,
        fail_lookups: Callable[[], None],
        payments: WechatPayments,
        wechat: FakeWechatPay,
        clock: Clock,
    ) -> None:
        fail_lookups()
        wechat.responses[PLACE_PATH] = FakeResponse(
            200, {"prepay_id": "1"}, signed_as=UNKNOWN_SERIAL_NUMBER
        )
        with pytest.raises(PaymentFailed, match="serial"):
            payments.place(ORDER)
        assert wechat.certificate_lookups == 1
        assert verify_notification(payments, wechat, clock)
        wechat.responses[PLACE_PATH] = FakeResponse(200, {"prepay_id": "1"})
        assert payments.place(ORDER)

    def test_new_certificate_is_accepted_after_the_next_lookup(
        self,
        fail_lookups: Callable[[], None],
        payments: WechatPayments,
        wechat: FakeWechatPay,
        clock: Clock,
    ) -> None:
        fail_lookups()
        old_signer, wechat.signer = wechat.signer, Signer.new(2)
        assert_unknown_serial(payments, wechat, clock, signing_key_id=wechat.signer.serial)
        wechat.certificates_response, wechat.listed_signers = None, [old_signer, wechat.signer]
        wechat.delay_s.clear()
        clock.now_s += LOOKUP_PERIOD_S - 1
        assert_unknown_serial(payments, wechat, clock, signing_key_id=wechat.signer.serial)
        clock.now_s += 1
        assert verify_notification(payments, wechat, clock)
        assert wechat.certificate_lookups == 2
        wechat.signer = old_signer
        assert verify_notification(payments, wechat, clock)

    def test_gateway_cannot_be_created_without_certificates(
        self,
        fail_lookups: Callable[[], None],
        certificate_settings: dict[str, str],
        new_gateway: NewGateway,
    ) -> None:
        fail_lookups()
        with pytest.raises(ValueError, match="certificates cannot be loaded"):
            new_gateway(certificate_settings)


class TestRateLimit:
    def test_1000_unknown_serial_numbers_cause_one_lookup_a_minute(
        self, payments: WechatPayments, wechat: FakeWechatPay, clock: Clock
    ) -> None:
        wechat.certificates_response = FakeResponse(500)
        for number in range(1000):
            assert_unknown_serial(payments, wechat, clock, signing_key_id=f"{number:X}")
            clock.now_s += 0.5
        # The requests take 500 s, in which nine look-up periods of 60 s begin.
        assert wechat.certificate_lookups == 9
        assert verify_notification(payments, wechat, clock)

    def test_16_threads_with_unknown_serial_numbers_cause_one_lookup(
        self, payments: WechatPayments, wechat: FakeWechatPay, clock: Clock
    ) -> None:
        wechat.certificates_response = FakeResponse(500)
        for minute_number in range(1, 4):
            with ThreadPoolExecutor(16) as threads:
                verifications = [
                    threads.submit(
                        assert_unknown_serial, payments, wechat, clock, signing_key_id=f"{number:X}"
                    )
                    for number in range(160)
                ]
                for verification in verifications:
                    verification.result()
            assert wechat.certificate_lookups == minute_number
            clock.now_s += LOOKUP_PERIOD_S

    def test_known_serial_number_does_not_wait_for_a_lookup_in_progress(
        self, payments: WechatPayments, wechat: FakeWechatPay, clock: Clock
    ) -> None:
        wechat.delay_s[CERTIFICATES_PATH] = 10
        waiting_thread = threading.Thread(
            target=assert_unknown_serial,
            args=[payments, wechat, clock],
            kwargs={"signing_key_id": UNKNOWN_SERIAL_NUMBER},
        )
        waiting_thread.start()
        while not wechat.certificate_lookups:
            assert waiting_thread.is_alive()
        assert verify_notification(payments, wechat, clock)
        # A notification with another unknown serial number does not wait for the look-up either.
        assert_unknown_serial(payments, wechat, clock, signing_key_id="123456")
        assert waiting_thread.is_alive()
        wechat.closing.set()
        waiting_thread.join()
        assert wechat.certificate_lookups == 1

    @pytest.mark.processes
    def test_lookup_ends_after_3_seconds(
        self, payments: WechatPayments, wechat: FakeWechatPay, clock: Clock
    ) -> None:
        wechat.delay_s[CERTIFICATES_PATH] = 10
        started = time.monotonic()
        assert_unknown_serial(payments, wechat, clock, signing_key_id=UNKNOWN_SERIAL_NUMBER)
        assert 2.5 < time.monotonic() - started < 3.8

    def test_lookup_for_a_response_ends_at_the_deadline_of_the_request(
        self, payments: WechatPayments, wechat: FakeWechatPay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("livebackend.gateways.payments.wechat.client.REQUEST_TIMEOUT_S", 0.5)
        wechat.delay_s[CERTIFICATES_PATH] = 10
        wechat.responses[PLACE_PATH] = FakeResponse(
            200, {"prepay_id": "1"}, signed_as=UNKNOWN_SERIAL_NUMBER
        )
        started = time.monotonic()
        with pytest.raises(PaymentFailed):
            payments.place(ORDER)
        assert time.monotonic() - started < 1.5

    def test_notification_that_is_too_old_causes_no_lookup(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        headers, body = wechat.notification(
            signing_key_id=UNKNOWN_SERIAL_NUMBER, signed_at=time.time() - 1000
        )
        with pytest.raises(InvalidSignature, match="time"):
            payments.verify_notification(headers, body)
        assert wechat.certificate_lookups == 0


class TestExpiry:
    def test_expired_certificate_does_not_verify(
        self, payments: WechatPayments, wechat: FakeWechatPay, clock: Clock
    ) -> None:
        assert verify_notification(payments, wechat, clock)
        clock.now_s += timedelta(days=2).total_seconds()
        assert_unknown_serial(payments, wechat, clock, signing_key_id=wechat.signer.serial)

    def test_certificate_does_not_verify_before_its_validity_begins(
        self, payments: WechatPayments, wechat: FakeWechatPay, clock: Clock
    ) -> None:
        wechat.signer = Signer.new(2, valid_from=timedelta(hours=1), valid_until=timedelta(days=1))
        wechat.listed_signers.append(wechat.signer)
        assert_unknown_serial(payments, wechat, clock, signing_key_id=wechat.signer.serial)
        clock.now_s += timedelta(hours=2).total_seconds()
        assert verify_notification(payments, wechat, clock)
        assert wechat.certificate_lookups == 1

    def test_certificate_that_is_no_longer_listed_does_not_verify(
        self, payments: WechatPayments, wechat: FakeWechatPay, clock: Clock
    ) -> None:
        old_signer, wechat.signer = wechat.signer, Signer.new(2)
        wechat.listed_signers = [wechat.signer]
        assert verify_notification(payments, wechat, clock)
        wechat.signer = old_signer
        assert_unknown_serial(payments, wechat, clock, signing_key_id=old_signer.serial)


class TestPublicKey:
    @pytest.fixture
    def payments(
        self,
        public_key_settings: dict[str, str],
        new_gateway: NewGateway,
        clock: Clock,
        wechat: FakeWechatPay,
    ) -> WechatPayments:
        return new_gateway(public_key_settings, clock=clock, monotonic=clock)

    def test_messages_signed_by_the_public_key_cause_no_lookup(
        self,
        payments: WechatPayments,
        public_key_settings: dict[str, str],
        wechat: FakeWechatPay,
        clock: Clock,
    ) -> None:
        wechat.certificates_response = FakeResponse(500)
        wechat.responses[PLACE_PATH] = FakeResponse(200, {"prepay_id": "1"})
        public_key_id = public_key_settings["wechat.public_key_id"]
        assert payments.place(ORDER)
        assert verify_notification(payments, wechat, clock, signing_key_id=public_key_id)
        assert wechat.certificate_lookups == 0
        assert_unknown_serial(payments, wechat, clock, signing_key_id=UNKNOWN_SERIAL_NUMBER)
        assert_unknown_serial(payments, wechat, clock, signing_key_id="PUB_KEY_ID_OTHER")
        assert verify_notification(payments, wechat, clock, signing_key_id=public_key_id)
        assert wechat.certificate_lookups == 1

    def test_notification_signed_by_a_certificate_is_accepted_too(
        self, payments: WechatPayments, wechat: FakeWechatPay, clock: Clock
    ) -> None:
        wechat.signer = Signer.new(2)
        wechat.listed_signers = [wechat.signer]
        assert verify_notification(payments, wechat, clock)

    def test_notification_signed_by_another_key_with_the_known_id_is_rejected(
        self,
        payments: WechatPayments,
        public_key_settings: dict[str, str],
        wechat: FakeWechatPay,
        clock: Clock,
    ) -> None:
        headers, body = wechat.notification(
            signing_key_id=public_key_settings["wechat.public_key_id"],
            key=rsa_key(9),
            signed_at=clock.now_s,
        )
        with pytest.raises(InvalidSignature, match="signature"):
            payments.verify_notification(headers, body)
