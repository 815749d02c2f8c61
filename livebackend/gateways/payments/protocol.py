"""The protocol of payment gateways."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import Any, NamedTuple, Protocol, runtime_checkable

# Maximum difference between a notification's time and the server's clock. A notification with a
# larger difference is rejected as a replay.
CLOCK_SKEW_S = 300
# The time zone of bills: a bill covers one day in China Standard Time.
CHINA = timezone(timedelta(hours=8), "UTC+8")


class PaymentFailed(Exception):
    """The provider rejected the request, responded incorrectly or timed out.

    The caller can retry the request.
    """


class InvalidSignature(Exception):
    """A notification is forged, malformed or too old; the message has the reason."""


@dataclass(frozen=True)
class Order:
    """A payment order. The provider accepts at most one payment for an `order_id`."""

    order_id: str
    fen: int
    description: str


class ProviderPayment(NamedTuple):
    """A payment of an order. `payment_id` is the provider's id of the payment."""

    order_id: str
    payment_id: str
    fen: int
    # The time of the payment; None if the provider does not report the time.
    paid_at: datetime | None = None


class OrderState(Enum):
    """State of an order at the provider."""

    # The user can still pay the order, or the provider does not know the order.
    UNPAID = "unpaid"
    PAID = "paid"
    # The order is unpaid, and the user can no longer pay it.
    CLOSED = "closed"
    # The provider refunded the payment, in full or in part.
    REFUNDED = "refunded"


class ProviderOrder(NamedTuple):
    """An order at the provider; `payment` is set in the states PAID and REFUNDED."""

    state: OrderState
    payment: ProviderPayment | None = None


class BillEntry(NamedTuple):
    """A row of a bill: a payment of `fen`, or a refund of `refunded_fen`."""

    order_id: str
    payment_id: str
    fen: int
    refunded_fen: int = 0


@runtime_checkable
class PaymentGateway(Protocol):
    """A payment provider. Every method returns within 3 s, `bill` within 30 s."""

    # The provider's name in stored orders and coin accounts.
    provider: str

    def place(self, order: Order) -> dict[str, Any]:
        """Place an order; return the parameters with which the app pays it.

        The caller can place the same order again until it is paid. Raises PaymentFailed.
        """

    def verify_notification(
        self, headers: Mapping[str, str], body: bytes
    ) -> ProviderPayment | None:
        """Verify a notification; return its payment, or None if it reports no payment.

        The names of `headers` are in lower case. Raises InvalidSignature.
        """

    def query(self, order: Order) -> ProviderOrder:
        """Return the state of an order at the provider. Raises PaymentFailed."""

    def close(self, order: Order) -> None:
        """Close an unpaid order, so that the user can no longer pay it.

        Succeeds for an order that is already closed or unknown to the provider. Raises
        PaymentFailed, also for a paid order.
        """

    def refund(self, order: Order, *, reason: str) -> bool:
        """Refund the full amount of a paid order. Idempotent.

        Returns True when the refund is complete, False while the provider is still processing it.
        Raises PaymentFailed.
        """

    def bill(self, day: date) -> list[BillEntry]:
        """Return the payments and refunds of a day in China Standard Time.

        Raises PaymentFailed, also when the bill is not available yet.
        """


def check_notification_time(sent_at: str, *, now: float) -> None:
    """Raise InvalidSignature unless `sent_at` is close to `now` (seconds since 1970)."""
    if not re.fullmatch("[0-9]{1,12}", sent_at) or abs(int(sent_at) - now) > CLOCK_SKEW_S:
        raise InvalidSignature(
            f"the notification's time is not within {CLOCK_SKEW_S} s of the server's clock"
        )
