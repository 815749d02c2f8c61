"""Fake gateways that record calls or fail; settings refer to them by dotted name."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

from livebackend.development.payments import DevelopmentPayments
from livebackend.development.sms import DevelopmentSms
from livebackend.development.streams import DevelopmentStreams
from livebackend.gateways.payments.protocol import (
    BillEntry,
    Order,
    OrderState,
    PaymentFailed,
    ProviderOrder,
)
from livebackend.gateways.sms.protocol import SmsFailed
from livebackend.gateways.streams import Stream, StreamFailed, StreamReference


class FailingSms(DevelopmentSms):
    """SMS gateway that fails to send every message."""

    def send(self, phone: str, code: str) -> None:
        raise SmsFailed("the SMS account is out of credit")


class BlockedSms(DevelopmentSms):
    """SMS gateway whose calls wait, or fail, during a `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self._may_continue = threading.Event()
        self._may_continue.set()
        self._fails = False

    @property
    def sent_count(self) -> int:
        return len(self.sent)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        self._may_continue.clear()
        yield
        self._may_continue.set()

    @contextmanager
    def failing(self) -> Iterator[None]:
        self._fails = True
        yield
        self._fails = False

    def send(self, phone: str, code: str) -> None:
        assert self._may_continue.wait(10)
        if self._fails:
            raise SmsFailed("the SMS account is out of credit")
        super().send(phone, code)


class RecordingStreams(DevelopmentStreams):
    """Stream gateway that records calls, and fails while `fails` is set."""

    created: list[str]
    disabled: list[str]
    fails = False

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.created, self.disabled = [], []

    def create(self, key: str, publish_key: str) -> Stream:
        self.created.append(key)
        if self.fails:
            raise StreamFailed("the hub does not exist")
        return super().create(key, publish_key)

    def disable(self, stream: StreamReference) -> None:
        self.disabled.append(stream.key)
        if self.fails:
            raise StreamFailed("the hub does not exist")
        super().disable(stream)


class FakePayments(DevelopmentPayments):
    """A payment provider whose orders, refunds, bills and failures a test sets."""

    placed: list[Order]
    fails = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.placed = []
        self.queried: list[str] = []
        self.closed: list[str] = []
        self.refunded: list[tuple[str, str]] = []
        # Orders at the provider by order id; an order that is not in this dict is unpaid.
        self.orders: dict[str, ProviderOrder] = {}
        self.refund_is_done = True
        self.bills: dict[date, list[BillEntry]] = {}

    def reset(self) -> None:
        self.placed, self.queried, self.closed, self.refunded = [], [], [], []
        self.orders, self.bills = {}, {}
        self.fails, self.refund_is_done = False, True

    def place(self, order: Order) -> dict[str, Any]:
        self.placed.append(order)
        self._raise_if_failing()
        return {"orderId": order.order_id, "fen": order.fen}

    def query(self, order: Order) -> ProviderOrder:
        self.queried.append(order.order_id)
        self._raise_if_failing()
        return self.orders.get(order.order_id, ProviderOrder(OrderState.UNPAID))

    def close(self, order: Order) -> None:
        self._raise_if_failing()
        self.closed.append(order.order_id)

    def refund(self, order: Order, *, reason: str) -> bool:
        self.refunded.append((order.order_id, reason))
        self._raise_if_failing()
        return self.refund_is_done

    def bill(self, day: date) -> list[BillEntry]:
        self._raise_if_failing()
        try:
            return self.bills[day]
        except KeyError:
            raise PaymentFailed("no bill exists for this date") from None

    def _raise_if_failing(self) -> None:
        if self.fails:
            raise PaymentFailed("the payment provider is unavailable")


class SecondFakePayments(FakePayments):
    """A second payment provider with a signing key of its own."""

    provider = "other"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"key": b"other"})


class FailingStreams(RecordingStreams):
    """Stream gateway that always fails."""

    fails = True


class PaymentsWithUnknownBillEntry(FakePayments):
    """Payment provider whose daily bills contain one payment of an unknown order."""

    def bill(self, day: date) -> list[BillEntry]:
        return [BillEntry("unknown", "p", 1000)]
