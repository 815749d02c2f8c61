"""Reconciliation of pending payment orders with the provider."""

from collections.abc import Callable
from functools import partial

import pytest

from livebackend.gateways.payments.protocol import Order, OrderState, PaymentFailed, ProviderOrder
from livebackend.ledger.audit import audit
from tests.support.api import App, UserClient, run_concurrently
from tests.support.database_state import DatabaseState
from tests.support.payments import (
    FAKE_PAYMENTS,
    SECOND_FAKE_PAYMENTS,
    PaymentScenario,
    new_payment_scenario,
)


@pytest.fixture
def payments(new_app: Callable[..., App], database_state: DatabaseState) -> PaymentScenario:
    return new_payment_scenario(new_app, database_state)


def test_paid_order_without_a_notification_is_credited_once(
    payments: PaymentScenario, ann: UserClient, database_state: DatabaseState
) -> None:
    order_id = payments.order(ann, "50")
    payment = payments.pay(order_id, 5000)
    payments.age_orders("31 seconds")
    assert payments.services.payment_reconciliation.run() == (1, 0)
    assert payments.services.payment_reconciliation.run() == (0, 0)
    assert database_state.coins(ann) == 50
    assert payments.state(order_id) == "paid"
    with database_state.assert_unchanged():
        assert payments.notify(payment) == 204


def test_new_order_is_not_queried(payments: PaymentScenario, ann: UserClient) -> None:
    payments.order(ann)
    payments.age_orders("25 seconds")
    assert payments.services.payment_reconciliation.run() == (0, 0)
    assert payments.provider.queried == []


def test_unpaid_order_is_queried_with_back_off_and_closed_when_it_expires(
    payments: PaymentScenario, ann: UserClient, database_state: DatabaseState
) -> None:
    order_id = payments.order(ann)
    query_minutes = []
    for minute in range(1, 181):
        payments.age_orders("1 minute")
        if payments.services.payment_reconciliation.run().queried:
            query_minutes.append(minute)
    assert query_minutes == [1, 2, 3, 5, 9, 17, 33, 65, 125]
    assert payments.provider.closed == [order_id]
    assert payments.state(order_id) == "closed"
    assert database_state.coins(ann) == 0


def test_payment_that_arrives_after_the_order_was_closed_is_credited(
    payments: PaymentScenario, ann: UserClient, database_state: DatabaseState
) -> None:
    order_id = payments.order(ann)
    payments.age_orders("3 hours")
    payments.services.payment_reconciliation.run()
    assert payments.state(order_id) == "closed"
    assert payments.notify(payments.payment(order_id)) == 204
    assert (payments.state(order_id), database_state.coins(ann)) == ("paid", 10)


def test_retry_returns_a_closed_order_and_does_not_place_it_again(
    payments: PaymentScenario, ann: UserClient
) -> None:
    payments.order(ann, requestId="r")
    payments.age_orders("3 hours")
    payments.services.payment_reconciliation.run()
    response = ann.with_app(payments.app).refill("10", requestId="r")
    assert (response.message["state"], response.message["pay"]) == ("closed", None)
    assert len(payments.provider.placed) == 1


@pytest.mark.parametrize("provider_state", [OrderState.CLOSED, OrderState.REFUNDED])
def test_order_that_is_closed_or_refunded_at_the_provider_is_closed(
    provider_state: OrderState,
    payments: PaymentScenario,
    ann: UserClient,
    database_state: DatabaseState,
) -> None:
    order_id = payments.order(ann)
    payments.provider.orders[order_id] = ProviderOrder(provider_state)
    payments.age_orders("1 minute")
    payments.services.payment_reconciliation.run()
    assert (payments.state(order_id), database_state.coins(ann)) == ("closed", 0)


def test_failing_provider_is_queried_three_times_per_round_and_again_in_the_next_round(
    payments: PaymentScenario, ann: UserClient, database_state: DatabaseState
) -> None:
    order_ids = [payments.order(ann) for _ in range(5)]
    for order_id in order_ids:
        payments.pay(order_id)
    payments.age_orders("1 minute")
    payments.provider.fails = True
    assert payments.services.payment_reconciliation.run() == (3, 3)
    payments.provider.fails = False
    assert payments.services.payment_reconciliation.run() == (2, 0)
    payments.age_orders("1 minute")
    assert payments.services.payment_reconciliation.run() == (3, 0)
    assert database_state.coins(ann) == 50


@pytest.mark.parametrize("error", [PaymentFailed("order"), KeyError("trade_state")])
def test_failed_queries_do_not_prevent_the_query_of_other_orders(
    error: Exception,
    payments: PaymentScenario,
    ann: UserClient,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing_order_ids = [payments.order(ann) for _ in range(2)]
    paid_order_id = payments.order(ann)
    payments.pay(paid_order_id)
    payments.age_orders("1 minute")
    original_query = payments.provider.query

    def query_or_fail(order: Order) -> ProviderOrder:
        if order.order_id in failing_order_ids:
            raise error
        return original_query(order)

    monkeypatch.setattr(payments.provider, "query", query_or_fail)
    assert payments.services.payment_reconciliation.run() == (3, 2)
    assert (payments.state(paid_order_id), database_state.coins(ann)) == ("paid", 10)


@pytest.mark.parametrize("analyzed_orders", [0, 1, 2, 20])
def test_each_order_is_claimed_once_with_any_table_statistics(
    analyzed_orders: int, payments: PaymentScenario, ann: UserClient, database_state: DatabaseState
) -> None:
    for _ in range(analyzed_orders):
        payments.order(ann)
    database_state.execute("ANALYZE payment_orders")
    order_ids = [payments.order(ann) for _ in range(6)]
    for order_id in order_ids:
        payments.pay(order_id)
    payments.age_orders("1 minute")
    assert payments.services.payment_reconciliation.run() == (analyzed_orders + 6, 0)
    assert database_state.coins(ann) == 60
    attempts = [row["query_attempts"] for row in database_state.rows("payment_orders")]
    assert attempts == [1] * (analyzed_orders + 6)


def test_order_is_closed_after_175_failed_queries(
    payments: PaymentScenario, ann: UserClient, database_state: DatabaseState
) -> None:
    order_id = payments.order(ann)
    payments.provider.fails = True
    rounds = 0
    payments.age_orders("1 hour")
    while payments.services.payment_reconciliation.run().queried:
        payments.age_orders("1 hour")
        rounds += 1
        assert rounds < 200
    assert rounds == 175
    assert payments.state(order_id) == "closed"
    payments.provider.fails = False
    assert payments.notify(payments.payment(order_id)) == 204
    assert database_state.coins(ann) == 10


def test_payment_of_a_wrong_amount_is_not_credited_and_is_logged(
    payments: PaymentScenario,
    ann: UserClient,
    database_state: DatabaseState,
    caplog: pytest.LogCaptureFixture,
) -> None:
    order_id = payments.order(ann)
    payments.pay(order_id, fen=999)
    payments.age_orders("1 minute")
    assert payments.services.payment_reconciliation.run() == (1, 0)
    assert (payments.state(order_id), database_state.coins(ann)) == ("pending", 0)
    assert f"order {order_id} not credited: The paid amount differs" in caplog.text


def test_concurrent_rounds_credit_each_order_once(
    payments: PaymentScenario, ann: UserClient, database_state: DatabaseState
) -> None:
    for _ in range(20):
        payments.pay(payments.order(ann))
    payments.age_orders("1 minute")
    results = run_concurrently(*[payments.services.payment_reconciliation.run] * 4)
    assert sum(result.queried for result in results) == 20
    assert database_state.coins(ann) == 200


def test_concurrent_round_and_notification_credit_an_order_once(
    payments: PaymentScenario, ann: UserClient, database_state: DatabaseState
) -> None:
    for _ in range(10):
        payment = payments.pay(payments.order(ann))
        payments.age_orders("1 minute")
        run_concurrently(
            payments.services.payment_reconciliation.run, partial(payments.notify, payment)
        )
    assert database_state.coins(ann) == 100
    assert audit(payments.services.database, since_checkpoint=False).findings == []


def test_orders_of_a_provider_without_a_gateway_stay_pending(
    payments: PaymentScenario,
    new_app: Callable[..., App],
    ann: UserClient,
    database_state: DatabaseState,
) -> None:
    order_id = payments.order(ann)
    payments.age_orders("1 minute")
    payments_of_second_provider = PaymentScenario(
        new_app(coins__refill="order", payments__gateway=SECOND_FAKE_PAYMENTS),
        database_state,
        "other",
    )
    assert payments_of_second_provider.services.payment_reconciliation.run() == (0, 0)
    payments_of_both_providers = PaymentScenario(
        new_app(coins__refill="order", payments__gateway=f"{SECOND_FAKE_PAYMENTS} {FAKE_PAYMENTS}"),
        database_state,
    )
    payments_of_both_providers.pay(order_id)
    assert payments_of_both_providers.services.payment_reconciliation.run() == (1, 0)
    assert database_state.coins(ann) == 10
