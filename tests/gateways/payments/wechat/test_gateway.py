"""WeChat Pay gateway, with real signatures and encryption, against a fake server."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from livebackend.gateways.payments.protocol import (
    InvalidSignature,
    OrderState,
    PaymentFailed,
    PaymentGateway,
    ProviderOrder,
    ProviderPayment,
)
from livebackend.gateways.payments.wechat.gateway import WechatPayments
from tests.support.api import App, UserClient
from tests.support.application import DEVELOPMENT_INI
from tests.support.database_state import DatabaseState
from tests.support.wechat_server import (
    APP_ID,
    MERCHANT,
    ORDER,
    PAYMENT_ID,
    PUBLIC_KEY_ID,
    FakeResponse,
    FakeWechatPay,
    NewGateway,
    check_signature,
    rsa_key,
    transaction,
)

PLACE_PATH = "/v3/pay/transactions/app"
QUERY_PATH = f"/v3/pay/transactions/out-trade-no/{ORDER.order_id}"
CLOSE_PATH = f"{QUERY_PATH}/close"
REFUND_PATH = "/v3/refund/domestic/refunds"
PAYMENT = ProviderPayment(
    ORDER.order_id,
    PAYMENT_ID,
    5000,
    datetime(2026, 10, 3, 2, 34, 56, tzinfo=UTC),
)
OTHER_KEY = rsa_key(9)

# Responses that are failures for every operation of the gateway.
FAILURE_RESPONSES = [
    FakeResponse(403, {"code": "NO_AUTH", "message": "no permission"}),
    FakeResponse(429, {"code": "FREQUENCY_LIMITED"}),
    FakeResponse(500, {"code": "SYSTEM_ERROR", "message": "x" * 1000}),
    FakeResponse(302, headers={"Location": "https://example.com/"}),
    FakeResponse(502, b"<html>bad gateway</html>"),
    FakeResponse(200, b"<html>Welcome to the hotel</html>"),
    FakeResponse(200, []),
    FakeResponse(200, {}),
    FakeResponse(200, b""),
]


@pytest.fixture(params=["certificate", "public key"])
def payments(
    request: pytest.FixtureRequest,
    certificate_settings: dict[str, str],
    public_key_settings: dict[str, str],
    new_gateway: NewGateway,
) -> WechatPayments:
    """A gateway that verifies signatures with certificates, or with the public key."""
    return new_gateway(
        certificate_settings if request.param == "certificate" else public_key_settings
    )


@pytest.fixture
def signing_key_id(
    request: pytest.FixtureRequest, wechat: FakeWechatPay, payments: WechatPayments
) -> str:
    """The certificate serial number or public key id with which WeChat Pay signs."""
    return wechat.signer.serial if wechat.certificate_lookups else PUBLIC_KEY_ID


def test_wechat_payments_implement_the_gateway_protocol(payments: WechatPayments) -> None:
    assert isinstance(payments, PaymentGateway)


class TestPlace:
    def test_order_is_placed_and_the_app_gets_a_signed_payment_request(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[PLACE_PATH] = FakeResponse(200, {"prepay_id": "wx-prepaid-1"})
        payment_request = payments.place(ORDER)
        (request,) = wechat.received(PLACE_PATH)
        assert request.body == {
            "appid": APP_ID,
            "mchid": MERCHANT,
            "out_trade_no": ORDER.order_id,
            "description": "50 coins",
            "notify_url": "https://live.example/payments",
            "amount": {"total": 5000, "currency": "CNY"},
        }
        signature = payment_request.pop("sign")
        signed_fields = (
            APP_ID,
            payment_request["timestamp"],
            payment_request["noncestr"],
            "wx-prepaid-1",
        )
        check_signature(wechat.merchant_key.public_key(), signature, *signed_fields)
        assert payment_request.keys() == {
            *("appid", "partnerid", "prepayid", "package", "noncestr", "timestamp")
        }
        assert (payment_request["partnerid"], payment_request["package"]) == (
            MERCHANT,
            "Sign=WXPay",
        )

    def test_response_without_a_prepay_id_fails(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[PLACE_PATH] = FakeResponse(200, {"prepay_id": ""})
        with pytest.raises(PaymentFailed):
            payments.place(ORDER)


class TestFailures:
    """Failures that every operation of the gateway reports."""

    @pytest.fixture(params=["place", "query", "close", "refund"])
    def send(
        self, request: pytest.FixtureRequest, payments: WechatPayments
    ) -> Callable[[], object]:
        return {
            "place": lambda: payments.place(ORDER),
            "query": lambda: payments.query(ORDER),
            "close": lambda: payments.close(ORDER),
            "refund": lambda: payments.refund(ORDER, reason="x"),
        }[request.param]

    @pytest.mark.parametrize(
        "response",
        FAILURE_RESPONSES,
        ids=lambda response: f"{response.status} {response.content}"[:30],
    )
    def test_unsuccessful_response_fails(
        self, response: FakeResponse, send: Callable[[], object], wechat: FakeWechatPay
    ) -> None:
        wechat.responses = dict.fromkeys(
            (PLACE_PATH, QUERY_PATH, CLOSE_PATH, REFUND_PATH), response
        )
        with pytest.raises(PaymentFailed) as failed:
            send()
        assert len(str(failed.value)) <= 200
        assert str(wechat.requests[-1].path) in (PLACE_PATH, QUERY_PATH, CLOSE_PATH, REFUND_PATH)

    def test_response_signed_by_another_key_fails(
        self, send: Callable[[], object], wechat: FakeWechatPay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signed_headers = wechat.signed_headers
        monkeypatch.setattr(
            wechat,
            "signed_headers",
            lambda body, **options: signed_headers(body, **options, key=OTHER_KEY),
        )
        successful_content = {"prepay_id": "1", **transaction(), "status": "SUCCESS"}
        wechat.responses = dict.fromkeys(
            (PLACE_PATH, QUERY_PATH, REFUND_PATH), FakeResponse(200, successful_content)
        )
        wechat.responses[CLOSE_PATH] = FakeResponse(204)
        with pytest.raises(PaymentFailed, match="invalid signature"):
            send()

    def test_hanging_server_fails_at_the_deadline(
        self, send: Callable[[], object], wechat: FakeWechatPay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("livebackend.gateways.payments.wechat.client.REQUEST_TIMEOUT_S", 0.2)
        wechat.delay_s = dict.fromkeys((PLACE_PATH, QUERY_PATH, CLOSE_PATH, REFUND_PATH), 10)
        started = time.monotonic()
        with pytest.raises(PaymentFailed, match="timeout"):
            send()
        assert time.monotonic() - started < 2


class TestQuery:
    def query(
        self, payments: WechatPayments, wechat: FakeWechatPay, **changed_fields: Any
    ) -> ProviderOrder:
        wechat.responses[QUERY_PATH] = FakeResponse(200, transaction(**changed_fields))
        return payments.query(ORDER)

    def test_request_names_the_order_and_the_merchant(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        self.query(payments, wechat)
        (request,) = wechat.received(QUERY_PATH)
        assert (request.method, request.target) == ("GET", f"{QUERY_PATH}?mchid={MERCHANT}")

    @pytest.mark.parametrize(
        ("trade_state", "order_state", "payment"),
        [
            ("SUCCESS", OrderState.PAID, PAYMENT),
            ("REFUND", OrderState.REFUNDED, PAYMENT),
            ("NOTPAY", OrderState.UNPAID, None),
            ("USERPAYING", OrderState.UNPAID, None),
            ("PAYERROR", OrderState.UNPAID, None),
            ("CLOSED", OrderState.CLOSED, None),
            ("REVOKED", OrderState.CLOSED, None),
        ],
    )
    def test_order_state_follows_the_trade_state(
        self,
        trade_state: str,
        order_state: OrderState,
        payment: ProviderPayment | None,
        payments: WechatPayments,
        wechat: FakeWechatPay,
    ) -> None:
        missing_fields: dict[str, None] = {}
        if payment is None:
            missing_fields = dict.fromkeys(("transaction_id", "success_time", "amount"))
        order = self.query(payments, wechat, trade_state=trade_state, **missing_fields)
        assert order == ProviderOrder(order_state, payment)

    @pytest.mark.parametrize("code", ["ORDER_NOT_EXIST", "ORDERNOTEXIST"])
    def test_unknown_order_is_unpaid(
        self, code: str, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[QUERY_PATH] = FakeResponse(404, {"code": code, "message": "订单不存在"})
        assert payments.query(ORDER) == ProviderOrder(OrderState.UNPAID)

    def test_status_404_with_another_code_fails(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[QUERY_PATH] = FakeResponse(404, {"code": "RESOURCE_NOT_EXISTS"})
        with pytest.raises(PaymentFailed, match="RESOURCE_NOT_EXISTS"):
            payments.query(ORDER)

    def test_query_returns_the_amount_of_the_provider(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        order = self.query(payments, wechat, amount={"total": 1, "currency": "CNY"})
        assert order.payment == PAYMENT._replace(fen=1)

    @pytest.mark.parametrize(
        "changed_fields",
        [
            {"mchid": "1900000002"},
            {"out_trade_no": "b" * 32},
            {"trade_state": "ACCEPT"},
            {"trade_state": None},
            {"amount": {"total": 5000, "currency": "HKD"}},
            {"amount": {"total": 50.0}},
            {"amount": {"total": "5000"}},
            {"amount": {}},
            {"amount": None},
            {"amount": []},
            {"transaction_id": None},
            {"transaction_id": 42},
        ],
    )
    def test_wrong_transaction_fails(
        self, changed_fields: dict[str, Any], payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        with pytest.raises(PaymentFailed):
            self.query(payments, wechat, **changed_fields)

    @pytest.mark.parametrize("success_time", [None, "yesterday", "2026-10-03T10:34:56", 5])
    def test_payment_with_a_malformed_time_has_no_time(
        self, success_time: Any, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        order = self.query(payments, wechat, success_time=success_time)
        assert order.payment == PAYMENT._replace(paid_at=None)


class TestClose:
    def test_unpaid_order_is_closed(self, payments: WechatPayments, wechat: FakeWechatPay) -> None:
        wechat.responses[CLOSE_PATH] = FakeResponse(204)
        payments.close(ORDER)
        (request,) = wechat.received(CLOSE_PATH)
        assert (request.method, request.body) == ("POST", {"mchid": MERCHANT})

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (404, "ORDER_NOT_EXIST"),
            (404, "ORDERNOTEXIST"),
            (400, "ORDER_CLOSED"),
            (400, "ORDERCLOSED"),
        ],
    )
    def test_closing_an_unknown_or_closed_order_succeeds(
        self, status: int, code: str, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[CLOSE_PATH] = FakeResponse(status, {"code": code})
        payments.close(ORDER)

    def test_closing_a_paid_order_fails(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[CLOSE_PATH] = FakeResponse(
            400, {"code": "ORDERPAID", "message": "该订单已支付"}
        )
        with pytest.raises(PaymentFailed, match="ORDERPAID: 该订单已支付"):
            payments.close(ORDER)


class TestRefund:
    def test_refund_request_has_the_full_amount_and_the_order_id(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[REFUND_PATH] = FakeResponse(200, {"status": "SUCCESS"})
        assert payments.refund(ORDER, reason="closed account") is True
        (request,) = wechat.received(REFUND_PATH)
        assert (request.method, request.body) == (
            "POST",
            {
                "out_trade_no": ORDER.order_id,
                "out_refund_no": ORDER.order_id,
                "reason": "closed account",
                "amount": {"refund": 5000, "total": 5000, "currency": "CNY"},
            },
        )

    def test_reason_is_cut_to_80_bytes_of_complete_characters(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[REFUND_PATH] = FakeResponse(200, {"status": "SUCCESS"})
        payments.refund(ORDER, reason="退" * 30)
        (request,) = wechat.received(REFUND_PATH)
        assert request.body["reason"] == "退" * 26

    def test_refund_in_progress_returns_false(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[REFUND_PATH] = FakeResponse(200, {"status": "PROCESSING"})
        assert payments.refund(ORDER, reason="x") is False

    @pytest.mark.parametrize("status", ["CLOSED", "ABNORMAL", "OTHER", None])
    def test_unsuccessful_refund_fails_with_its_status(
        self, status: str | None, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[REFUND_PATH] = FakeResponse(200, {"status": status})
        with pytest.raises(PaymentFailed, match=str(status)):
            payments.refund(ORDER, reason="x")

    def test_rejected_refund_fails_with_the_error_code(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[REFUND_PATH] = FakeResponse(
            403, {"code": "NOT_ENOUGH", "message": "余额不足"}
        )
        with pytest.raises(PaymentFailed, match="NOT_ENOUGH: 余额不足"):
            payments.refund(ORDER, reason="x")


class TestVerifyNotification:
    def test_valid_notification_returns_the_payment(
        self, payments: WechatPayments, signing_key_id: str, wechat: FakeWechatPay
    ) -> None:
        headers, body = wechat.notification(signing_key_id=signing_key_id)
        assert payments.verify_notification(headers, body) == PAYMENT

    def test_payment_with_a_malformed_time_has_no_time(
        self, payments: WechatPayments, signing_key_id: str, wechat: FakeWechatPay
    ) -> None:
        headers, body = wechat.notification(signing_key_id=signing_key_id, success_time="yesterday")
        assert payments.verify_notification(headers, body) == PAYMENT._replace(paid_at=None)

    def test_notification_signed_by_another_key_is_rejected(
        self, payments: WechatPayments, signing_key_id: str, wechat: FakeWechatPay
    ) -> None:
        headers, body = wechat.notification(signing_key_id=signing_key_id, key=OTHER_KEY)
        with pytest.raises(InvalidSignature, match="signature"):
            payments.verify_notification(headers, body)

    @pytest.mark.parametrize("other_body", [b"x", b"", b"\xff", b"[]", b"null"])
    def test_notification_with_another_body_is_rejected(
        self,
        other_body: bytes,
        payments: WechatPayments,
        signing_key_id: str,
        wechat: FakeWechatPay,
    ) -> None:
        headers, _ = wechat.notification(signing_key_id=signing_key_id)
        with pytest.raises(InvalidSignature):
            payments.verify_notification(headers, other_body)

    @pytest.mark.parametrize(
        "body", [b"x", b"[]", b"{}", b'{"resource": 5}', b'{"resource": {}, "event_type": "x"}']
    )
    def test_signed_notification_with_a_malformed_body_is_rejected(
        self, body: bytes, payments: WechatPayments, signing_key_id: str, wechat: FakeWechatPay
    ) -> None:
        headers = {
            name.lower(): value
            for name, value in wechat.signed_headers(body, signing_key_id=signing_key_id).items()
        }
        with pytest.raises(InvalidSignature, match="malformed body"):
            payments.verify_notification(headers, body)

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("wechatpay-signature", ""),
            ("wechatpay-signature", "é"),
            ("wechatpay-signature", "AAAA"),
            ("wechatpay-nonce", "another"),
            ("wechatpay-signature-type", "WECHATPAY2-SM2-WITH-SM3"),
            ("wechatpay-serial", "not a number"),
            ("wechatpay-serial", ""),
            ("wechatpay-timestamp", "now"),
            ("wechatpay-timestamp", "1"),
        ],
    )
    def test_notification_with_a_wrong_header_is_rejected(
        self,
        header: str,
        value: str,
        payments: WechatPayments,
        signing_key_id: str,
        wechat: FakeWechatPay,
    ) -> None:
        headers, body = wechat.notification(signing_key_id=signing_key_id)
        with pytest.raises(InvalidSignature):
            payments.verify_notification(headers | {header: value}, body)
        del headers[header]
        with pytest.raises(InvalidSignature):
            payments.verify_notification(headers, body)

    @pytest.mark.parametrize("offset_s", [-400, 400])
    def test_notification_that_is_too_old_or_in_the_future_is_rejected(
        self, offset_s: float, payments: WechatPayments, signing_key_id: str, wechat: FakeWechatPay
    ) -> None:
        headers, body = wechat.notification(
            signing_key_id=signing_key_id, signed_at=time.time() + offset_s
        )
        with pytest.raises(InvalidSignature, match="time"):
            payments.verify_notification(headers, body)

    @pytest.mark.parametrize(
        "changed_fields",
        [
            {"mchid": "1900000002"},
            {"trade_state": "USERPAYING"},
            {"amount": {"total": 5000, "currency": "HKD"}},
        ],
    )
    def test_payment_that_cannot_be_credited_is_rejected(
        self,
        changed_fields: dict[str, Any],
        payments: WechatPayments,
        signing_key_id: str,
        wechat: FakeWechatPay,
    ) -> None:
        headers, body = wechat.notification(signing_key_id=signing_key_id, **changed_fields)
        with pytest.raises(InvalidSignature, match=r"merchant|state or currency"):
            payments.verify_notification(headers, body)

    def test_payment_with_another_app_id_is_accepted(
        self, payments: WechatPayments, signing_key_id: str, wechat: FakeWechatPay
    ) -> None:
        headers, body = wechat.notification(
            signing_key_id=signing_key_id, appid="wx0000000000000002"
        )
        assert payments.verify_notification(headers, body)

    def test_notification_of_another_event_returns_no_payment(
        self, payments: WechatPayments, signing_key_id: str, wechat: FakeWechatPay
    ) -> None:
        headers, body = wechat.notification(signing_key_id=signing_key_id, event="REFUND.SUCCESS")
        assert payments.verify_notification(headers, body) is None

    @pytest.mark.parametrize(
        "changed_fields", [{"amount": None}, {"amount": {"total": "x"}}, {"out_trade_no": None}]
    )
    def test_malformed_payment_is_rejected(
        self,
        changed_fields: dict[str, Any],
        payments: WechatPayments,
        signing_key_id: str,
        wechat: FakeWechatPay,
    ) -> None:
        headers, body = wechat.notification(signing_key_id=signing_key_id, **changed_fields)
        with pytest.raises(InvalidSignature, match="malformed body"):
            payments.verify_notification(headers, body)


class TestSettings:
    @pytest.mark.parametrize("name", ["app_id", "merchant", "serial", "key_file", "api_key"])
    def test_error_names_the_missing_setting(
        self, name: str, public_key_settings: dict[str, str], new_gateway: NewGateway
    ) -> None:
        with pytest.raises(ValueError, match=rf"required settings are empty: wechat\.{name}"):
            new_gateway(public_key_settings | {f"wechat.{name}": ""})

    @pytest.mark.parametrize("name", ["public_key_file", "public_key_id"])
    def test_public_key_requires_both_settings(
        self, name: str, public_key_settings: dict[str, str], new_gateway: NewGateway
    ) -> None:
        with pytest.raises(ValueError, match=rf"required settings are empty: wechat\.{name}"):
            new_gateway(public_key_settings | {f"wechat.{name}": ""})

    @pytest.mark.parametrize(
        ("name", "key_kind"), [("key_file", "private"), ("public_key_file", "public")]
    )
    def test_file_without_a_key_is_a_settings_error(
        self,
        name: str,
        key_kind: str,
        public_key_settings: dict[str, str],
        new_gateway: NewGateway,
        tmp_path: Path,
    ) -> None:
        with pytest.raises(ValueError, match="No such file"):
            new_gateway(public_key_settings | {f"wechat.{name}": str(tmp_path / "none.pem")})
        (tmp_path / "wrong.pem").write_text("x")
        with pytest.raises(ValueError, match=f"{key_kind} key"):
            new_gateway(public_key_settings | {f"wechat.{name}": str(tmp_path / "wrong.pem")})

    def test_api_key_of_another_length_is_a_settings_error(
        self, public_key_settings: dict[str, str], new_gateway: NewGateway
    ) -> None:
        with pytest.raises(ValueError, match="must have 32 bytes") as failed:
            new_gateway(public_key_settings | {"wechat.api_key": "a-short-key"})
        assert "a-short-key" not in str(failed.value)


def test_refill_is_ordered_paid_and_booked(
    new_app: Callable[..., App],
    public_key_settings: dict[str, str],
    wechat: FakeWechatPay,
    ann: UserClient,
    database_state: DatabaseState,
) -> None:
    wechat.responses[PLACE_PATH] = FakeResponse(200, {"prepay_id": "wx-prepaid-1"})
    gateway_settings = {
        name.replace(".", "__"): value for name, value in public_key_settings.items()
    }
    wechat_payments = "livebackend.gateways.payments.wechat.WechatPayments"
    app = new_app(
        DEVELOPMENT_INI,
        coins__refill="order",
        payments__gateway=wechat_payments,
        **gateway_settings,
    )
    order = ann.with_app(app).refill("50").message
    assert order["pay"]["prepayid"] == "wx-prepaid-1"
    notification_fields = {"signing_key_id": PUBLIC_KEY_ID, "out_trade_no": order["orderId"]}
    for headers, body, status in [
        (
            *wechat.notification(**notification_fields, amount={"total": 1000, "currency": "CNY"}),
            400,
        ),
        (*wechat.notification(**notification_fields, key=OTHER_KEY), 400),
        (*wechat.notification(**notification_fields), 204),
        (*wechat.notification(**notification_fields), 204),
        (*wechat.notification(**notification_fields, transaction_id="4200000000000000002"), 400),
    ]:
        response = TestApp(app).post("/payments", body, headers=headers, status="*")
        assert response.status_int == status
        assert database_state.coins(ann) == (
            50 if status == 204 or database_state.coins(ann) else 0
        )
    assert database_state.coins(ann) == 50
    assert len(database_state.rows("transfers")) == 1
