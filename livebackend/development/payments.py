"""Development payment gateway, which treats every order as paid."""

import hmac
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Self

import orjson
import requests

from livebackend.config.settings import Settings
from livebackend.core.signing import derived_key
from livebackend.core.supervised_thread import start_thread
from livebackend.gateways.payments.protocol import (
    BillEntry,
    InvalidSignature,
    Order,
    OrderState,
    PaymentFailed,
    ProviderOrder,
    ProviderPayment,
    check_notification_time,
)

log = logging.getLogger(__name__)
_NOTIFICATION_ATTEMPTS, _NOTIFICATION_PAUSE_S = 5, 0.5
_NOTIFICATION_TIMEOUT_S = 3


class DevelopmentPayments:
    """Payment gateway that moves no money and reports each order as paid.

    The notification is JSON over HTTP, signed with HMAC-SHA256 of time and body. The key is derived
    from the server's first secret.
    """

    provider = "embedded"

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        url = settings.http_public_url.rstrip("/") + "/payments"
        return cls(url, key=derived_key(settings.signing_secrets[0], "payments"), clock=time.time)

    def __init__(self, url: str, *, key: bytes, clock: Callable[[], float]) -> None:
        self._url = url
        self._key = key
        self._clock = clock

    def place(self, order: Order) -> dict[str, Any]:
        # The thread sends the notification after this method has returned, as a real provider does.
        # If it cannot start, housekeeping queries the order, as after a lost notification.
        start_thread("payment notification", partial(self._notify, order))
        return {"orderId": order.order_id, "fen": order.fen}

    def verify_notification(
        self, headers: Mapping[str, str], body: bytes
    ) -> ProviderPayment | None:
        sent_at, signature = headers.get("x-payment-time", ""), headers.get("x-payment-signature")
        if not hmac.compare_digest(self._signature(sent_at, body), (signature or "").encode()):
            raise InvalidSignature("invalid signature")
        check_notification_time(sent_at, now=self._clock())
        return _decode_payment(body)

    def query(self, order: Order) -> ProviderOrder:
        """Return the state PAID with a payment of the full amount."""
        return ProviderOrder(OrderState.PAID, self._payment(order))

    def close(self, order: Order) -> None:
        raise PaymentFailed("the order is paid and cannot be closed")

    def refund(self, order: Order, *, reason: str) -> bool:
        return True

    def bill(self, day: date) -> list[BillEntry]:
        raise PaymentFailed("the development gateway has no bills")

    def notification(self, payment: ProviderPayment) -> tuple[dict[str, str], bytes]:
        """Return the headers, with a valid signature, and the body of a notification."""
        fields = {name: value for name, value in payment._asdict().items() if value is not None}
        body, sent_at = orjson.dumps(fields), str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            "X-Payment-Time": sent_at,
            "X-Payment-Signature": self._signature(sent_at, body).decode(),
        }
        return headers, body

    def _signature(self, sent_at: str, body: bytes) -> bytes:
        signed_bytes = sent_at.encode("utf-8", "replace") + b"\n" + body
        return hmac.digest(self._key, signed_bytes, "sha256").hex().encode()

    def _payment(self, order: Order) -> ProviderPayment:
        paid_at = datetime.fromtimestamp(self._clock(), UTC)
        return ProviderPayment(order.order_id, f"payment-of-{order.order_id}", order.fen, paid_at)

    def _notify(self, order: Order) -> None:
        payment = self._payment(order)
        for _ in range(_NOTIFICATION_ATTEMPTS):
            time.sleep(_NOTIFICATION_PAUSE_S)
            headers, body = self.notification(payment)
            try:
                response = requests.post(
                    self._url, data=body, headers=headers, timeout=_NOTIFICATION_TIMEOUT_S
                )
            except requests.RequestException as error:
                log.warning("payments: notification of order %s failed: %s", order.order_id, error)
                continue
            if response.ok:
                return
            log.warning(
                "payments: notification of order %s rejected with HTTP status %s",
                order.order_id,
                response.status_code,
            )


def _decode_payment(body: bytes) -> ProviderPayment:
    fields = orjson.loads(body)
    if "paid_at" in fields:
        fields["paid_at"] = datetime.fromisoformat(fields["paid_at"])
    return ProviderPayment(**fields)
