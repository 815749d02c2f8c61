"""Payments through WeChat Pay, API v3. Needs `pip install 'livebackend[wechat]'`."""

import hashlib
import hmac
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from livebackend.config.settings import Settings
from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.payments.protocol import (
    CHINA,
    BillEntry,
    InvalidSignature,
    Order,
    OrderState,
    ProviderOrder,
    ProviderPayment,
    check_notification_time,
)
from livebackend.gateways.payments.wechat.bills import bill_entries
from livebackend.gateways.payments.wechat.client import (
    API_URL,
    NamedKey,
    WechatClient,
    payment_failure,
)
from livebackend.gateways.payments.wechat.crypto import ApiKey, MerchantKey, PlatformKey

log = logging.getLogger(__name__)

BILL_TIMEOUT_S = 30.0
# WeChat Pay provides the bill of a day from 10:00 of the next day, in China Standard Time.
_BILL_DUE_TIME = time_of_day(10)
_MAX_REASON_BYTES = 80
_CURRENCY = "CNY"
# WeChat Pay's documentation has two spellings of these error codes.
_UNKNOWN_ORDER_CODES = {"ORDER_NOT_EXIST", "ORDERNOTEXIST"}
_CLOSED_ORDER_CODES = {"ORDER_CLOSED", "ORDERCLOSED"}
_STATE_BY_TRADE_STATE = {
    "SUCCESS": OrderState.PAID,
    "REFUND": OrderState.REFUNDED,
    "NOTPAY": OrderState.UNPAID,
    "USERPAYING": OrderState.UNPAID,
    "PAYERROR": OrderState.UNPAID,
    "CLOSED": OrderState.CLOSED,
    "REVOKED": OrderState.CLOSED,
}


class WechatPayments:
    """Payment gateway for payments in the WeChat app.

    Verifies WeChat Pay's signatures with WeChat Pay's public key, if one is set, or with its
    platform certificates. The gateway downloads the certificates at startup, and when a response
    or notification names an unknown certificate.

    Source: WeChat Pay API v3, "APP下单", "APP调起支付", "支付成功通知".
    """

    provider = "wechat"

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Create the gateway.

        Raises ValueError for wrong settings, or if the certificates cannot be loaded.
        """
        settings.require(
            *("wechat.app_id", "wechat.merchant", "wechat.serial"),
            *("wechat.key_file", "wechat.api_key"),
        )
        client = WechatClient(
            MerchantKey.from_pem(
                _read_text(settings.wechat_key_file),
                merchant=settings.wechat_merchant,
                serial=settings.wechat_serial,
            ),
            ApiKey(settings.wechat_api_key.get_secret_value()),
            _load_public_key(settings),
            clock=clock,
            monotonic=monotonic,
        )
        client.load_certificates()
        return cls(
            client,
            app_id=settings.wechat_app_id,
            merchant=settings.wechat_merchant,
            notify_url=settings.http_public_url.rstrip("/") + "/payments",
            clock=clock,
        )

    def __init__(
        self,
        client: WechatClient,
        *,
        app_id: str,
        merchant: str,
        notify_url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._app_id = app_id
        self._merchant = merchant
        self._notify_url = notify_url
        self._clock = clock

    def place(self, order: Order) -> dict[str, Any]:
        fields = {
            "appid": self._app_id,
            "mchid": self._merchant,
            "out_trade_no": order.order_id,
            "description": order.description,
            "notify_url": self._notify_url,
            "amount": {"total": order.fen, "currency": _CURRENCY},
        }
        response = self._client.call("POST", "/v3/pay/transactions/app", fields)
        prepay_id = response.fields.get("prepay_id")
        if response.status != 200 or not prepay_id:
            raise response.failure()
        return self._payment_request(str(prepay_id))

    def verify_notification(
        self, headers: Mapping[str, str], body: bytes
    ) -> ProviderPayment | None:
        """Verify a notification; return its payment, or None if it reports no payment.

        A payment that cannot be credited raises InvalidSignature too, so that WeChat Pay sends the
        notification again. The app id is not compared, because it can have changed since the order
        was placed.

        Source: WeChat Pay API v3, "支付成功通知".
        """
        check_notification_time(headers.get("wechatpay-timestamp", ""), now=self._clock())
        notification = self._client.notification(headers, body)
        transaction = notification.resource
        if notification.event_type != "TRANSACTION.SUCCESS":
            log.warning(
                "WeChat Pay: notification with event type %s ignored", notification.event_type
            )
            return None
        try:
            if not self._names_this_merchant(transaction):
                raise InvalidSignature("the payment is to another merchant")
            if transaction.get("trade_state") != "SUCCESS" or not _is_in_yuan(transaction):
                raise InvalidSignature("the payment has the wrong state or currency")
            return _parse_payment(transaction)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidSignature("malformed body") from error

    def query(self, order: Order) -> ProviderOrder:
        """Return the state of an order at WeChat Pay. Raises PaymentFailed.

        The payment's amount can differ from the order's: the caller must compare them.

        Source: WeChat Pay API v3, "商户订单号查询订单".
        """
        path = f"{_order_path(order)}?mchid={quote(self._merchant, safe='')}"
        response = self._client.call("GET", path)
        if response.status == 404 and response.code in _UNKNOWN_ORDER_CODES:
            return ProviderOrder(OrderState.UNPAID)
        if response.status != 200:
            raise response.failure()
        try:
            return self._parse_provider_order(order, response.fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise payment_failure(
                f"order {order.order_id}: malformed response: {error!r}"
            ) from error

    def close(self, order: Order) -> None:
        """Close an unpaid order. Raises PaymentFailed.

        Source: WeChat Pay API v3, "关闭订单".
        """
        response = self._client.call(
            "POST", f"{_order_path(order)}/close", {"mchid": self._merchant}
        )
        if (
            response.status != 204
            and response.code not in _UNKNOWN_ORDER_CODES | _CLOSED_ORDER_CODES
        ):
            raise response.failure()

    def refund(self, order: Order, *, reason: str) -> bool:
        """Refund the full amount to the user. Raises PaymentFailed.

        The refund number is the order id, so WeChat Pay refunds an order at most once.
        WeChat Pay shows `reason`, cut to 80 bytes of UTF-8, to the user.

        Source: WeChat Pay API v3, "申请退款".
        """
        fields = {
            "out_trade_no": order.order_id,
            "out_refund_no": order.order_id,
            "reason": reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore"),
            "amount": {"refund": order.fen, "total": order.fen, "currency": _CURRENCY},
        }
        response = self._client.call("POST", "/v3/refund/domestic/refunds", fields)
        if response.status != 200:
            raise response.failure()
        status = str(response.fields.get("status"))
        if status not in ("SUCCESS", "PROCESSING"):
            raise payment_failure(f"the refund of order {order.order_id} has the status {status}")
        return status == "SUCCESS"

    def bill(self, day: date) -> list[BillEntry]:
        """Return the payments and refunds of a day in China Standard Time.

        Raises PaymentFailed, also when the bill is not available yet or larger than 64 MiB. WeChat
        Pay creates the bill of a day before 10:00 of the next day.

        Source: WeChat Pay API v3, "申请交易账单", "下载账单", "交易账单文件格式说明".
        """
        deadline = Deadline(BILL_TIMEOUT_S)
        path = f"/v3/bill/tradebill?bill_date={day.isoformat()}&bill_type=ALL"
        response = self._client.call("GET", path, deadline=deadline)
        if response.code == "NO_STATEMENT_EXIST" and self._is_bill_due(day):
            return []  # after 10:00, this code means: no payments or refunds on this day
        if response.code in ("NO_STATEMENT_EXIST", "STATEMENT_CREATING"):
            raise payment_failure(
                f"the bill of {day.isoformat()} is not available yet: {response.code}"
            )
        if response.status != 200:
            raise response.failure()
        content = self._client.download(_bill_path(response.fields), deadline=deadline)
        _check_digest(content, response.fields)
        try:
            return bill_entries(content, merchant=self._merchant, app_id=self._app_id)
        except ValueError as error:
            raise payment_failure(f"the bill of {day.isoformat()} is malformed: {error}") from error

    def _parse_provider_order(self, order: Order, transaction: Mapping[str, Any]) -> ProviderOrder:
        """Parse the transaction of a query response.

        Raises PaymentFailed if the order, state or currency is not an expected one. Raises
        ValueError, KeyError, TypeError or AttributeError for a malformed transaction.
        """
        if transaction.get("out_trade_no") != order.order_id or not self._names_this_merchant(
            transaction
        ):
            raise payment_failure(f"the response names another order than {order.order_id}")
        state = _STATE_BY_TRADE_STATE.get(str(transaction.get("trade_state")))
        if state is None:
            trade_state = transaction.get("trade_state")
            raise payment_failure(f"order {order.order_id} has the unknown state {trade_state}")
        if state not in (OrderState.PAID, OrderState.REFUNDED):
            return ProviderOrder(state)
        if not _is_in_yuan(transaction):
            raise payment_failure(f"order {order.order_id} was not paid in yuan")
        return ProviderOrder(state, _parse_payment(transaction))

    def _is_bill_due(self, day: date) -> bool:
        """Return whether it is past 10:00 of the next day, when the bill is available."""
        due_at = datetime.combine(day + timedelta(days=1), _BILL_DUE_TIME, CHINA)
        return self._clock() >= due_at.timestamp()

    def _names_this_merchant(self, transaction: Mapping[str, Any]) -> bool:
        return bool(transaction.get("mchid") == self._merchant)

    def _payment_request(self, prepay_id: str) -> dict[str, Any]:
        """Return the signed parameters that the app passes to the WeChat app."""
        timestamp, nonce = str(int(self._clock())), uuid.uuid4().hex
        return {
            "appid": self._app_id,
            "partnerid": self._merchant,
            "prepayid": prepay_id,
            "package": "Sign=WXPay",
            "noncestr": nonce,
            "timestamp": timestamp,
            "sign": self._client.sign(self._app_id, timestamp, nonce, prepay_id),
        }


def _read_text(file: str) -> str:
    """Read an ASCII file. Raises ValueError if it cannot be read."""
    try:
        return Path(file).read_text("ascii")
    except OSError as error:
        raise ValueError(str(error)) from error


def _load_public_key(settings: Settings) -> NamedKey | None:
    """Load WeChat Pay's public key, if it is set.

    Raises ValueError if only one of wechat.public_key_file and wechat.public_key_id is set.
    """
    file, key_id = settings.wechat_public_key_file, settings.wechat_public_key_id
    if not file and not key_id:
        return None
    settings.require("wechat.public_key_file", "wechat.public_key_id")
    return NamedKey(key_id, PlatformKey.from_pem(_read_text(file)))


def _order_path(order: Order) -> str:
    return f"/v3/pay/transactions/out-trade-no/{quote(order.order_id, safe='')}"


def _is_in_yuan(transaction: Mapping[str, Any]) -> bool:
    return bool(transaction["amount"].get("currency", _CURRENCY) == _CURRENCY)


def _parse_payment(transaction: Mapping[str, Any]) -> ProviderPayment:
    """Parse the payment of a transaction.

    Raises ValueError, KeyError, TypeError or AttributeError for a malformed transaction.
    """
    order_id, payment_id = transaction["out_trade_no"], transaction["transaction_id"]
    fen = transaction["amount"]["total"]
    if type(fen) is not int or not isinstance(order_id, str) or not isinstance(payment_id, str):
        raise TypeError(
            "WeChat Pay's transaction has a wrong type in out_trade_no, transaction_id or"
            " amount.total"
        )
    return ProviderPayment(order_id, payment_id, fen, _parse_paid_at(transaction))


def _parse_paid_at(transaction: Mapping[str, Any]) -> datetime | None:
    """Return a payment's time, or None if the time is not RFC 3339 with an offset."""
    text = transaction.get("success_time")
    try:
        paid_at = datetime.fromisoformat(str(text))
    except ValueError:
        paid_at = None
    if paid_at is None or paid_at.tzinfo is None:
        log.warning("WeChat Pay: malformed success_time %.40r, payment stored without time", text)
        return None
    return paid_at


def _bill_path(fields: Mapping[str, Any]) -> str:
    """Return the path of the bill's download URL.

    Raises PaymentFailed unless the URL has the host of WeChat Pay's API. A request to another host
    would disclose the merchant's signature.
    """
    url = fields.get("download_url")
    if not isinstance(url, str) or not url.startswith(f"{API_URL}/"):
        raise payment_failure("the bill's download URL names another host than the API's")
    return url.removeprefix(API_URL)


def _check_digest(content: bytes, fields: Mapping[str, Any]) -> None:
    if fields.get("hash_type") != "SHA1":
        raise payment_failure(f"the bill's digest type is {fields.get('hash_type')}, not SHA1")
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    if not hmac.compare_digest(digest.encode(), str(fields.get("hash_value")).lower().encode()):
        raise payment_failure("the bill does not match its SHA1 digest")
