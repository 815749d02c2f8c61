"""Outside services that fail or wait, for the settings `….gateway`."""

from typing import Any

from livebackend.gateways.payments import EmbeddedPayments, Order, PaymentFailed
from livebackend.gateways.sms import EmbeddedSms, SmsFailed
from livebackend.gateways.streams import EmbeddedStreams, Stream, StreamFailed


class BrokenSms(EmbeddedSms):
    """Refuses every message."""

    def send(self, phone: str, code: str) -> None:
        raise SmsFailed("out of credit")


class CountedStreams(EmbeddedStreams):
    """Remembers what it was asked for, and fails when told to."""

    created: list[str]
    disabled: list[str]
    fails = False

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.created, self.disabled = [], []

    def create(self, key: str, publish_key: str) -> Stream:
        self.created.append(key)
        if self.fails:
            raise StreamFailed("the hub is gone")
        return super().create(key, publish_key)

    def disable(self, key: str) -> None:
        self.disabled.append(key)
        if self.fails:
            raise StreamFailed("the hub is gone")
        super().disable(key)


class PatientPayments(EmbeddedPayments):
    """Waits for a test to say what was paid; fails when told to."""

    placed: list[Order]
    fails = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.placed = []

    def place(self, order: Order) -> dict[str, Any]:
        self.placed.append(order)
        if self.fails:
            raise PaymentFailed("out of order")
        return {"orderId": order.order_id, "fen": order.fen}


class FailingStreams(CountedStreams):
    """Fails from the start, for whoever cannot be told to."""

    fails = True
