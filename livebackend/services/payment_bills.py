"""Comparison of payment orders with the daily bill of a payment provider."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection, Row, text

from livebackend.database.engine import Database
from livebackend.gateways.payments.protocol import CHINA, BillEntry
from livebackend.services.payment_orders import PaymentOrders

# The difference that is reported for a paid order in the state `pending` or `closed`.
NOT_CREDITED = "paid, but not credited"

_ORDERS_IN_BILL = text(
    """
    SELECT order_id, fen, state, payment_id FROM payment_orders
    WHERE provider = :provider AND order_id = ANY(:order_ids)
    """
)
_ORDERS_PAID_ON_DAY = text(
    """
    SELECT order_id, fen FROM payment_orders
    WHERE provider = :provider AND paid_at >= :since AND paid_at < :until
    """
)


@dataclass(frozen=True)
class BillReport:
    """Totals of a provider's daily bill, and its differences from the payment orders."""

    provider: str
    day: date
    payments: int
    paid_fen: int
    refunds: int
    refunded_fen: int
    differences: list[str]


def compare_bill(database: Database, orders: PaymentOrders, provider: str, day: date) -> BillReport:
    """Compare a provider's bill of a day with the payment orders.

    Raises PaymentFailed if the provider fails or the bill is not available yet.
    """
    entries = orders.gateway(provider).bill(day)
    day_start = datetime.combine(day, time(), CHINA).astimezone(UTC)
    bill_parameters = {
        "provider": provider,
        "order_ids": list({entry.order_id for entry in entries}),
    }
    day_parameters = {
        "provider": provider,
        "since": day_start,
        "until": day_start + timedelta(days=1),
    }

    def find_differences(connection: Connection) -> list[str]:
        orders_by_id = {
            row.order_id: row for row in connection.execute(_ORDERS_IN_BILL, bill_parameters)
        }
        credited_orders = connection.execute(_ORDERS_PAID_ON_DAY, day_parameters).all()
        return _describe_differences(entries, orders_by_id, credited_orders)

    payments = [entry for entry in entries if not entry.refunded_fen]
    refunds = [entry for entry in entries if entry.refunded_fen]
    return BillReport(
        provider=provider,
        day=day,
        payments=len(payments),
        paid_fen=sum(entry.fen for entry in payments),
        refunds=len(refunds),
        refunded_fen=sum(entry.refunded_fen for entry in refunds),
        differences=database.run(find_differences),
    )


def _describe_differences(
    entries: Sequence[BillEntry],
    orders_by_id: dict[str, Row[Any]],
    credited_orders: Sequence[Row[Any]],
) -> list[str]:
    differences = []
    for entry in entries:
        difference = _describe_difference(entry, orders_by_id.get(entry.order_id))
        if difference:
            differences.append(f"order {entry.order_id}: {difference}")
    billed_order_ids = {entry.order_id for entry in entries}
    differences.extend(
        f"order {row.order_id}: credited ({row.fen} fen), but not in the bill"
        for row in credited_orders
        if row.order_id not in billed_order_ids
    )
    return differences


def _describe_difference(entry: BillEntry, order: Row[Any] | None) -> str | None:
    if order is None:
        return f"payment {entry.payment_id} is for an unknown order"
    if entry.refunded_fen:
        return _describe_refund_difference(entry, order)
    if order.fen != entry.fen:
        return f"{entry.fen} fen were paid, {order.fen} were ordered"
    if order.payment_id is None:
        return NOT_CREDITED
    if order.payment_id != entry.payment_id:
        return f"paid twice: by {order.payment_id} and by {entry.payment_id}"
    return None


def _describe_refund_difference(entry: BillEntry, order: Row[Any]) -> str | None:
    if order.state not in ("refunding", "refunded"):
        return f"{entry.refunded_fen} fen were refunded, but the coins were not reversed"
    if entry.refunded_fen != order.fen:
        return f"{entry.refunded_fen} of {order.fen} fen were refunded, but all coins were reversed"
    return None
