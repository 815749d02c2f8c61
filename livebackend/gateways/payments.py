"""Payments: what a provider promises, and one whose customers always pay at once."""

import hmac
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import orjson
import requests

from livebackend.settings import Settings
from livebackend.signing import derived_key

log = logging.getLogger(__name__)

# How far a notification's time may be from ours: an old one that somebody recorded is refused.
CLOCK_SKEW_S = 300
_TRIES, _PAUSE_S = 5, 0.5
_TOTAL_S = 3


class PaymentFailed(Exception):
    """The provider refused an order, answered nonsense, or did not answer in time.

    The same order may be placed again.
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
    """What was paid for an order; `payment_id` is the provider's own."""

    order_id: str
    payment_id: str
    fen: int


@runtime_checkable
class PaymentGateway(Protocol):
    # What orders and coin accounts are filed under.
    provider: str

    def place(self, order: Order) -> dict[str, Any]:
        """What the app needs to pay an order, within 3 s; or PaymentFailed.

        The same order may be placed again until it is paid.
        """

    def read(self, headers: Mapping[str, str], body: bytes) -> Paid | None:
        """What a notification says was paid, None for other news of the provider's; or NotGenuine.

        The headers' names are in lower case.
        """


class EmbeddedPayments:
    """Takes no money: what is ordered counts as paid, and is notified over HTTP a moment later.

    A notification is JSON, signed with a secret of the server's own: HMAC-SHA256 of time and body.
    """

    provider = "embedded"

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        url = settings.http_url.rstrip("/") + "/payments"
        return cls(url, key=derived_key(settings.secrets[0], "payments"), clock=time.time)

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
        return Paid(**orjson.loads(body))

    def notification(self, paid: Paid) -> tuple[dict[str, str], bytes]:
        """A genuine notification: its headers and its body."""
        body, sent_at = orjson.dumps(paid._asdict()), str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            "X-Payment-Time": sent_at,
            "X-Payment-Signature": self._signature(sent_at, body).decode(),
        }
        return headers, body

    def _signature(self, sent_at: str, body: bytes) -> bytes:
        signed = sent_at.encode("utf-8", "replace") + b"\n" + body
        return hmac.digest(self._key, signed, "sha256").hex().encode()

    def _notify(self, order: Order) -> None:
        paid = Paid(order.order_id, f"payment-of-{order.order_id}", order.fen)
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


def check_time(sent_at: str, *, now: float) -> None:
    """Raises NotGenuine unless `sent_at`, seconds since 1970, is about now."""
    if not re.fullmatch("[0-9]{1,12}", sent_at) or abs(int(sent_at) - now) > CLOCK_SKEW_S:
        raise NotGenuine("time")
