"""`livebackend order` lists, settles, refunds and reconciles payment orders."""

from collections.abc import Callable
from typing import Any

import pytest

from livebackend.gateways.payments.protocol import BillEntry
from livebackend.ledger.transfers import TransferKind
from tests.support.api import App, UserClient
from tests.support.commands import Operator
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import PaymentsWithUnknownBillEntry
from tests.support.payments import FAKE_PAYMENTS, new_payment_scenario

# Settings whose payment gateway reports each order as paid (the default of development.ini) or as
# unpaid.
SETTINGS_WITH_PAID_ORDERS: dict[str, Any] = {}
SETTINGS_WITH_UNPAID_ORDERS: dict[str, Any] = {"payments_gateway": FAKE_PAYMENTS}


@pytest.fixture
def order_id(new_app: Callable[..., App], ann: UserClient, database_state: DatabaseState) -> str:
    """Id of a pending order of 10 coins, created by Ann."""
    return new_payment_scenario(new_app, database_state).order(ann)


def test_orders_are_listed_with_masked_phones(
    operator: Operator, order_id: str, ann: UserClient
) -> None:
    text = operator.run("order list").stdout
    header, row = text.splitlines()
    assert header.split() == [
        "order",
        "provider",
        "state",
        "created",
        "(UTC)",
        "fen",
        "coins",
        "phone",
    ]
    assert row.split()[:3] == [order_id, "embedded", "pending"]
    assert row.split()[-3:] == ["1000", "10", "138****0001"]
    assert ann.phone not in text


@pytest.mark.parametrize(
    ("options", "expected_count"),
    [
        (["--state", "pending"], 1),
        (["--state", "paid"], 0),
        (["--phone", "13800000001"], 1),
        (["--phone", "13800000002"], 0),
        (["--limit", "1"], 1),
    ],
)
def test_options_of_order_list_filter_the_orders(
    options: list[str], expected_count: int, operator: Operator, order_id: str
) -> None:
    assert len(operator.run_json("order list", *options)["orders"]) == expected_count


def test_show_prints_an_order_with_masked_phone(operator: Operator, order_id: str) -> None:
    order = operator.run_json("order show", order_id)
    assert (order["state"], order["coins"], order["query_attempts"]) == ("pending", 10, 0)
    assert "138****0001" in operator.run("order show", order_id).stdout


@pytest.mark.parametrize("command", ["show", "settle"])
def test_unknown_order_is_an_error(command: str, operator: Operator, ann: UserClient) -> None:
    error = operator.run_json(f"order {command}", "0" * 32, code=1)["error"]
    assert "there is no order" in error


def test_settle_credits_an_order_that_the_provider_reports_as_paid(
    operator: Operator, order_id: str, ann: UserClient, database_state: DatabaseState
) -> None:
    for _ in range(2):
        assert (
            operator.run_json("order settle", order_id, **SETTINGS_WITH_PAID_ORDERS)["state"]
            == "paid"
        )
    assert database_state.coins(ann) == 10


def test_settle_leaves_an_unpaid_order_pending(
    operator: Operator, order_id: str, database_state: DatabaseState
) -> None:
    with database_state.assert_unchanged():
        assert (
            operator.run_json("order settle", order_id, **SETTINGS_WITH_UNPAID_ORDERS)["state"]
            == "pending"
        )


def test_settle_needs_the_gateway_of_the_order(operator: Operator, order_id: str) -> None:
    error = operator.run_json("order settle", order_id, code=1, payments_gateway="")["error"]
    assert "no gateway for payment provider embedded: add it to payments.gateway" in error


def test_repeated_refund_reverses_the_coins_once(
    operator: Operator, order_id: str, ann: UserClient, database_state: DatabaseState
) -> None:
    operator.run("order settle", order_id)
    for _ in range(2):
        order = operator.run_json("order refund", order_id, "--reason", "fraud")
        assert (order["state"], order["refund_reason"]) == ("refunded", "fraud")
    assert database_state.coins(ann) == 0
    assert [row["kind"] for row in database_state.rows("transfers")] == [
        TransferKind.REFILL,
        TransferKind.REVERSAL,
    ]


def test_refund_with_insufficient_balance_is_an_error(
    operator: Operator,
    order_id: str,
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
) -> None:
    operator.run("order settle", order_id)
    ann.send_gift(ben, "1")
    with database_state.assert_unchanged():
        error = operator.run_json("order refund", order_id, "--reason", "fraud", code=1)["error"]
    assert "the balance is lower than the 10 coins of the order" in error


def test_refund_needs_a_reason(operator: Operator, order_id: str) -> None:
    operator.run("order refund", order_id, code=2)
    operator.run("order refund", order_id, "--reason", "x" * 201, code=2)


def test_reconcile_reports_a_bill_that_cannot_be_read(operator: Operator, ann: UserClient) -> None:
    text = operator.run("order reconcile", "--date", "2026-11-25", code=1).stdout
    assert text == (
        "embedded 2026-11-25: the bill cannot be read: the development gateway has no bills\n"
    )


def test_reconcile_reports_the_other_providers_when_one_bill_cannot_be_read(
    operator: Operator, ann: UserClient
) -> None:
    fakes_module = "tests.support.fake_gateways"
    gateways = f"{fakes_module}.SecondFakePayments {fakes_module}.PaymentsWithUnknownBillEntry"
    report = operator.run_json("order reconcile", payments_gateway=gateways, code=1)
    assert report["unread"] == {"other": "no bill exists for this date"}
    assert [bill["provider"] for bill in report["reports"]] == ["embedded"]


def test_reconcile_reports_differences_and_exits_with_1(
    operator: Operator, ann: UserClient
) -> None:
    gateway = "tests.support.fake_gateways.PaymentsWithUnknownBillEntry"
    report = operator.run_json("order reconcile", payments_gateway=gateway, code=1)["reports"][0]
    assert (report["payments"], report["paid_fen"]) == (1, 1000)
    assert report["differences"] == ["order unknown: payment p is for an unknown order"]


def test_reconcile_advises_to_settle_an_order_that_was_not_credited(
    operator: Operator, order_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        PaymentsWithUnknownBillEntry, "bill", lambda self, day: [BillEntry(order_id, "p", 1000)]
    )
    gateway = "tests.support.fake_gateways.PaymentsWithUnknownBillEntry"
    difference = f"order {order_id}: paid, but not credited"
    text = operator.run("order reconcile", payments_gateway=gateway, code=1).stdout
    assert text.splitlines()[1] == f"{difference}: run `livebackend order settle`"
    report = operator.run_json("order reconcile", payments_gateway=gateway, code=1)["reports"][0]
    assert report["differences"] == [difference]


def test_reconcile_without_a_payment_gateway_is_reported(
    operator: Operator, ann: UserClient
) -> None:
    text = operator.run("order reconcile", payments_gateway="").stdout
    assert text == "payments.gateway names no payment gateway\n"


def test_housekeeping_reconciles_orders(
    operator: Operator, order_id: str, ann: UserClient, database_state: DatabaseState
) -> None:
    database_state.execute("UPDATE payment_orders SET next_query_at = now()")
    assert operator.run_json("housekeeping")["orders"] == 1
    assert database_state.coins(ann) == 10


def test_doctor_reports_orders_whose_provider_has_no_gateway(
    operator: Operator, order_id: str
) -> None:
    report = operator.run_json("doctor", code=1, payments_gateway="")
    (payments_check,) = [result for result in report["checks"] if result["check"] == "payments"]
    assert payments_check["message"].endswith("a gateway in payments.gateway: 1 at embedded")
