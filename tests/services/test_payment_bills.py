"""Comparison of a provider's daily bill with the payment orders."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from livebackend.gateways.payments.protocol import BillEntry, PaymentFailed
from livebackend.services.payment_bills import BillReport, compare_bill
from tests.support.api import App, UserClient
from tests.support.database_state import DatabaseState
from tests.support.payments import PaymentScenario, new_payment_scenario

DAY = date(2026, 11, 25)
# First and last second of 2026-11-25 in China.
FIRST_SECOND, LAST_SECOND = (
    datetime(2026, 11, 24, 16, 0, 0, tzinfo=UTC),
    datetime(2026, 11, 25, 15, 59, 59, tzinfo=UTC),
)


@pytest.fixture
def payments(new_app: Callable[..., App], database_state: DatabaseState) -> PaymentScenario:
    return new_payment_scenario(new_app, database_state)


def pay_order(
    payments: PaymentScenario, user: UserClient, paid_at: datetime = FIRST_SECOND
) -> BillEntry:
    """Order and pay coins for 10 yuan; return the bill entry of the payment."""
    order_id = payments.order(user)
    payment = payments.payment(order_id, paid_at=paid_at)
    assert payments.notify(payment) == 204
    return BillEntry(order_id, payment.payment_id, payment.fen)


def compare_with_bill(
    payments: PaymentScenario, *entries: BillEntry, day: date = DAY
) -> BillReport:
    payments.provider.bills[day] = list(entries)
    return compare_bill(
        payments.services.database, payments.services.payment_orders, "embedded", day
    )


def test_bill_equal_to_the_orders_has_no_differences(
    payments: PaymentScenario, ann: UserClient
) -> None:
    entries = [pay_order(payments, ann, FIRST_SECOND), pay_order(payments, ann, LAST_SECOND)]
    assert compare_with_bill(payments, *entries) == BillReport("embedded", DAY, 2, 2000, 0, 0, [])


def test_payments_of_the_previous_and_the_next_day_are_not_reported_as_differences(
    payments: PaymentScenario, ann: UserClient
) -> None:
    pay_order(payments, ann, FIRST_SECOND.replace(hour=15))
    pay_order(payments, ann, LAST_SECOND.replace(hour=16))
    assert compare_with_bill(payments).differences == []


def test_payment_that_was_not_credited_is_reported_as_a_difference(
    payments: PaymentScenario, ann: UserClient
) -> None:
    order_id = payments.order(ann)
    (difference,) = compare_with_bill(payments, BillEntry(order_id, "p", 1000)).differences
    assert difference == f"order {order_id}: paid, but not credited"


def test_credit_without_a_payment_is_reported_as_a_difference(
    payments: PaymentScenario, ann: UserClient
) -> None:
    entry = pay_order(payments, ann)
    (difference,) = compare_with_bill(payments).differences
    assert difference == (f"order {entry.order_id}: credited (1000 fen), but not in the bill")


def test_payment_of_an_unknown_order_is_reported_as_a_difference(payments: PaymentScenario) -> None:
    (difference,) = compare_with_bill(payments, BillEntry("0" * 32, "p", 1000)).differences
    assert difference.endswith("payment p is for an unknown order")


@pytest.mark.parametrize(
    ("changed_fields", "expected"),
    [
        ({"fen": 999}, "999 fen were paid, 1000 were ordered"),
        ({"payment_id": "another"}, "paid twice"),
        ({"refunded_fen": 1000}, "1000 fen were refunded, but the coins were not reversed"),
    ],
    ids=["other amount", "other payment", "refund without reversal"],
)
def test_entry_that_differs_from_its_order_is_reported_as_a_difference(
    changed_fields: dict[str, Any], expected: str, payments: PaymentScenario, ann: UserClient
) -> None:
    entry = pay_order(payments, ann)
    (difference,) = compare_with_bill(payments, entry._replace(**changed_fields)).differences
    assert expected in difference


def test_refund_of_another_amount_is_reported_as_a_difference(
    payments: PaymentScenario, ann: UserClient
) -> None:
    entry = pay_order(payments, ann)
    payments.services.payment_refunds.refund(entry.order_id, reason="fraud")
    (difference,) = compare_with_bill(
        payments, entry, entry._replace(fen=0, refunded_fen=300)
    ).differences
    assert "300 of 1000 fen were refunded" in difference


def test_refund_of_a_refunded_order_is_not_reported_as_a_difference(
    payments: PaymentScenario, ann: UserClient
) -> None:
    entry = pay_order(payments, ann)
    payments.services.payment_refunds.refund(entry.order_id, reason="fraud")
    report = compare_with_bill(payments, entry, entry._replace(refunded_fen=1000))
    assert report == BillReport("embedded", DAY, 1, 1000, 1, 1000, [])


def test_comparison_without_a_bill_raises_payment_failed(payments: PaymentScenario) -> None:
    with pytest.raises(PaymentFailed, match="no bill"):
        compare_bill(payments.services.database, payments.services.payment_orders, "embedded", DAY)
