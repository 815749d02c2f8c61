"""The payment gateway of development: every order counts as paid at once."""

import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Self

import orjson
import requests

from livebackend.config.settings import Settings
from livebackend.core.signing import derived_key
from livebackend.gateways.payments.protocol import (
    BillEntry,
    NotGenuine,
    Order,
    OrderState,
    Paid,
    PaymentFailed,
    ProviderOrder,
    check_time,
)

log = logging.getLogger(__name__)
_TRIES, _PAUSE_S = 5, 0.5
_TOTAL_S = 3


class DevelopmentPayments:
    """Takes no money: what is ordered counts as paid, and is notified over HTTP a moment later.

    A notification is JSON, signed with a secret of the server's own: HMAC-SHA256 of time and body.
    """

    provider = "embedded"

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        url = settings.http_url.rstrip("/") + "/payments"
        return cls(url, key=derived_key(settings.signing_secrets[0], "payments"), clock=time.time)

    def __init__(self, url: str, *, key: bytes, clock: Callable[[], float]) -> None:
        self._url = url
        self._key = key
        self._clock = clock

    def place(self, order: Order) -> dict[str, Any]:
        # Sent when the caller has long had his answer, as a real customer would.
        threading.Thread(target=self._notify, args=[order], daemon=True).start()
        return {"orderId": order.order_id, "fen": order.fen}

    def read(self, headers: Mapping[str, str], body: bytes) -> Paid | None:
        sent_at, signature = headers.get("x-payment-time", ""), headers.get("x-payment-signature")
        if not hmac.compare_digest(self._signature(sent_at, body), (signature or "").encode()):
            raise NotGenuine("signature")
        check_time(sent_at, now=self._clock())
        return _decoded(body)

    def query(self, order: Order) -> ProviderOrder:
        """Every order counts as paid from the moment it is placed."""
        return ProviderOrder(OrderState.PAID, self._payment(order))

    def close(self, order: Order) -> None:
        raise PaymentFailed("the order is paid")

    def refund(self, order: Order, *, reason: str) -> bool:
        return True

    def bill(self, day: date) -> list[BillEntry]:
        raise PaymentFailed("the development gateway has no bills")

    def notification(self, paid: Paid) -> tuple[dict[str, str], bytes]:
        """A genuine notification: its headers and its body."""
        fields = {name: value for name, value in paid._asdict().items() if value is not None}
        body, sent_at = orjson.dumps(fields), str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            "X-Payment-Time": sent_at,
            "X-Payment-Signature": self._signature(sent_at, body).decode(),
        }
        return headers, body

    def _signature(self, sent_at: str, body: bytes) -> bytes:
        signed = sent_at.encode("utf-8", "replace") + b"\n" + body
        return hmac.digest(self._key, signed, "sha256").hex().encode()

    def _payment(self, order: Order) -> Paid:
        paid_at = datetime.fromtimestamp(self._clock(), UTC)
        return Paid(order.order_id, f"payment-of-{order.order_id}", order.fen, paid_at)

    def _notify(self, order: Order) -> None:
        paid = self._payment(order)
        for _ in range(_TRIES):
            time.sleep(_PAUSE_S)
            headers, body = self.notification(paid)
            try:
                answer = requests.post(self._url, data=body, headers=headers, timeout=_TOTAL_S)
            except requests.RequestException as error:
                log.warning("order %s: no answer to its notification: %s", order.order_id, error)
                continue
            if answer.ok:
                return
            log.warning(
                "order %s: its notification is answered %s", order.order_id, answer.status_code
            )


def _decoded(body: bytes) -> Paid:
    fields = orjson.loads(body)
    if "paid_at" in fields:
        fields["paid_at"] = datetime.fromisoformat(fields["paid_at"])
    return Paid(**fields)
