"""Payments: what a provider promises, and one whose customers always pay at once."""

import hmac
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import orjson
import requests

from livebackend.settings import Settings
from livebackend.signing import derived_key

log = logging.getLogger(__name__)

# How far a notification's time may be from ours: an old one that somebody recorded is refused.
CLOCK_SKEW_S = 300
# Bills cover days of this time zone.
CHINA = timezone(timedelta(hours=8), "UTC+8")
_TRIES, _PAUSE_S = 5, 0.5
_TOTAL_S = 3


class PaymentFailed(Exception):
    """The provider refused a request, sent an invalid response, or did not respond in time.

    The same request can be sent again.
    """


class NotGenuine(Exception):
    """A notification that the provider did not send, or sent long ago; the message says why."""


@dataclass(frozen=True)
class Order:
    """What is to be paid. The provider takes one payment at most for an `order_id`."""

    order_id: str
    fen: int
    description: str


class Paid(NamedTuple):
    """A payment of an order. `payment_id` is the provider's own id."""

    order_id: str
    payment_id: str
    fen: int
    # When the user paid; None where the provider does not say.
    paid_at: datetime | None = None


class OrderState(Enum):
    """State of an order at the provider."""

    # The user has not paid and still can, or the provider does not know the order.
    UNPAID = "unpaid"
    PAID = "paid"
    # The user can no longer pay.
    CLOSED = "closed"
    # The user paid and got the money back, in whole or in part.
    REFUNDED = "refunded"


class ProviderOrder(NamedTuple):
    """An order as the provider has it; `payment` is set in the states PAID and REFUNDED."""

    state: OrderState
    payment: Paid | None = None


class BillEntry(NamedTuple):
    """A line of the provider's bill: a payment of `fen`, or a refund of `refunded_fen`."""

    order_id: str
    payment_id: str
    fen: int
    refunded_fen: int = 0


@runtime_checkable
class PaymentGateway(Protocol):
    """A payment provider. Every method returns within 3 s, `bill` within 30 s."""

    # The name under which orders and coin accounts are stored.
    provider: str

    def place(self, order: Order) -> dict[str, Any]:
        """Place an order; return what the app needs to pay it.

        The same order can be placed again until it is paid. Raises PaymentFailed.
        """

    def read(self, headers: Mapping[str, str], body: bytes) -> Paid | None:
        """Verify a notification; return the payment, or None if it is about something else.

        The names of `headers` are in lower case. Raises NotGenuine.
        """

    def query(self, order: Order) -> ProviderOrder:
        """Return the state of an order at the provider. Raises PaymentFailed."""

    def close(self, order: Order) -> None:
        """Close an unpaid order, so that the user can no longer pay it.

        Closing an order again, or one that the provider does not know, succeeds. Raises
        PaymentFailed, also for an order that is paid.
        """

    def refund(self, order: Order, *, reason: str) -> bool:
        """Return the whole amount of a paid order to the user, once however often it is called.

        Returns True when the money is returned, False while the provider is still processing the
        refund. Raises PaymentFailed.
        """

    def bill(self, day: date) -> list[BillEntry]:
        """Return the payments and refunds of a day in China Standard Time.

        Raises PaymentFailed, also when the provider has no bill of that day yet.
        """


class EmbeddedPayments:
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


def check_time(sent_at: str, *, now: float) -> None:
    """Raises NotGenuine unless `sent_at`, seconds since 1970, is about now."""
    if not re.fullmatch("[0-9]{1,12}", sent_at) or abs(int(sent_at) - now) > CLOCK_SKEW_S:
        raise NotGenuine("time")
