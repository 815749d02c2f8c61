"""The protocol of payment gateways."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import Any, NamedTuple, Protocol, runtime_checkable

# How far a notification's time may be from ours: an old one that somebody recorded is refused.
CLOCK_SKEW_S = 300
# Bills cover days of this time zone.
CHINA = timezone(timedelta(hours=8), "UTC+8")


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


def check_time(sent_at: str, *, now: float) -> None:
    """Raises NotGenuine unless `sent_at`, seconds since 1970, is about now."""
    if not re.fullmatch("[0-9]{1,12}", sent_at) or abs(int(sent_at) - now) > CLOCK_SKEW_S:
        raise NotGenuine("time")
