"""Refunds: the server reverses the coins, then the provider returns the money."""

from collections.abc import Callable

import pytest

from livebackend.core.errors import ServiceUnavailable
from livebackend.gateways.payments.protocol import PaymentFailed
from livebackend.ledger.audit import audit
from livebackend.ledger.transfers import Transfer, TransferOutcome
from livebackend.services.payment_refunds import RefundRefused
from tests.support.api import App, UserClient, run_concurrently
from tests.support.database_state import DatabaseState
from tests.support.payments import PaymentScenario, new_payment_scenario


@pytest.fixture
def shop(new_app: Callable[..., App], database_state: DatabaseState) -> PaymentScenario:
    return new_payment_scenario(new_app, database_state)


@pytest.fixture
def paid_order(shop: PaymentScenario, ann: UserClient) -> str:
    """Id of a paid order of 50 coins, created by Ann."""
    order_id = shop.order(ann, "50")
    assert shop.notify(shop.payment(order_id, 5000)) == 204
    return order_id


def audit_findings(shop: PaymentScenario) -> list[object]:
    return list(audit(shop.services.database, since_checkpoint=False).findings)


def test_refund_reverses_the_coins_and_returns_the_money_once(
    shop: PaymentScenario, paid_order: str, ann: UserClient, database_state: DatabaseState
) -> None:
    assert shop.services.payment_refunds.refund(paid_order, reason="fraud")
    assert (shop.state(paid_order), database_state.coins(ann)) == ("refunded", 0)
    assert shop.provider.refunded == [(paid_order, "fraud")]
    with database_state.assert_unchanged():
        assert shop.services.payment_refunds.refund(paid_order, reason="again")
    assert len(shop.provider.refunded) == 1
    assert audit_findings(shop) == []


def test_refund_with_insufficient_balance_changes_nothing(
    shop: PaymentScenario,
    paid_order: str,
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
) -> None:
    ann.send_gift(ben, "1")
    with (
        database_state.assert_unchanged(),
        pytest.raises(RefundRefused, match="lower than the 50 coins"),
    ):
        shop.services.payment_refunds.refund(paid_order, reason="fraud")
    assert shop.provider.refunded == []
    assert shop.state(paid_order) == "paid"


def test_unpaid_order_is_not_refunded(
    shop: PaymentScenario, ann: UserClient, database_state: DatabaseState
) -> None:
    order_id = shop.order(ann)
    with database_state.assert_unchanged(), pytest.raises(RefundRefused, match="is pending"):
        shop.services.payment_refunds.refund(order_id, reason="fraud")


def test_unknown_order_is_not_refunded(
    shop: PaymentScenario, database_state: DatabaseState
) -> None:
    with database_state.assert_unchanged(), pytest.raises(LookupError):
        shop.services.payment_refunds.refund("0" * 32, reason="fraud")


def test_failed_refund_is_retried_by_reconciliation(
    shop: PaymentScenario, paid_order: str, ann: UserClient, database_state: DatabaseState
) -> None:
    shop.provider.fails = True
    with pytest.raises(PaymentFailed):
        shop.services.payment_refunds.refund(paid_order, reason="fraud")
    assert (shop.state(paid_order), database_state.coins(ann)) == ("refunding", 0)
    shop.provider.fails = False
    shop.age_orders("2 minutes")
    assert shop.services.payment_reconciliation.run() == (1, 0)
    assert shop.state(paid_order) == "refunded"
    assert shop.provider.refunded == [(paid_order, "fraud")] * 2
    assert audit_findings(shop) == []


def test_refund_in_progress_is_finished_by_reconciliation(
    shop: PaymentScenario, paid_order: str
) -> None:
    shop.provider.refund_is_done = False
    assert not shop.services.payment_refunds.refund(paid_order, reason="fraud")
    assert shop.state(paid_order) == "refunding"
    shop.provider.refund_is_done = True
    shop.age_orders("2 minutes")
    shop.services.payment_reconciliation.run()
    assert shop.state(paid_order) == "refunded"


def test_refund_interrupted_before_the_reversal_is_resumed_by_reconciliation(
    shop: PaymentScenario,
    paid_order: str,
    ann: UserClient,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raise_unavailable(*_: object, **__: object) -> None:
        raise ServiceUnavailable("the ledger", outcome_unknown=True)

    with monkeypatch.context() as patch:
        patch.setattr(shop.services.ledger_writer, "submit", raise_unavailable)
        with pytest.raises(ServiceUnavailable):
            shop.services.payment_refunds.refund(paid_order, reason="fraud")
    assert (shop.state(paid_order), database_state.coins(ann)) == ("refunding", 50)
    shop.age_orders("2 minutes")
    shop.services.payment_reconciliation.run()
    assert (shop.state(paid_order), database_state.coins(ann)) == ("refunded", 0)


def test_interrupted_refund_with_insufficient_balance_is_cancelled_by_reconciliation(
    shop: PaymentScenario,
    paid_order: str,
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raise_unavailable(*_: object, **__: object) -> None:
        raise ServiceUnavailable("the ledger")

    with monkeypatch.context() as patch:
        patch.setattr(shop.services.ledger_writer, "submit", raise_unavailable)
        with pytest.raises(ServiceUnavailable):
            shop.services.payment_refunds.refund(paid_order, reason="fraud")
    ann.send_gift(ben, "1")
    shop.age_orders("2 minutes")
    shop.services.payment_reconciliation.run()
    assert (shop.state(paid_order), database_state.coins(ann)) == ("paid", 49)
    assert shop.provider.refunded == []


def test_order_whose_coins_an_operator_reversed_is_refunded(
    shop: PaymentScenario, paid_order: str, ann: UserClient, database_state: DatabaseState
) -> None:
    (transfer,) = database_state.rows("transfers")
    shop.services.reversals.reverse(transfer["id"], reason="fraud")
    assert shop.services.payment_refunds.refund(paid_order, reason="fraud")
    assert (shop.state(paid_order), database_state.coins(ann)) == ("refunded", 0)
    assert len(database_state.rows("transfers")) == 2


def test_concurrent_refunds_reverse_the_coins_once(
    shop: PaymentScenario, paid_order: str, ann: UserClient, database_state: DatabaseState
) -> None:
    shop.order(ann)
    run_concurrently(
        *[lambda: shop.services.payment_refunds.refund(paid_order, reason="fraud")] * 8
    )
    assert (shop.state(paid_order), database_state.coins(ann)) == ("refunded", 0)
    assert len(database_state.rows("transfers")) == 2
    assert audit_findings(shop) == []


def test_refunded_order_is_not_credited_by_a_late_notification(
    shop: PaymentScenario, paid_order: str, database_state: DatabaseState
) -> None:
    shop.services.payment_refunds.refund(paid_order, reason="fraud")
    with database_state.assert_unchanged():
        assert shop.notify(shop.payment(paid_order, 5000)) == 204


def test_audit_finds_a_refunded_order_whose_coins_were_not_reversed(
    shop: PaymentScenario, paid_order: str, database_state: DatabaseState
) -> None:
    database_state.execute("UPDATE payment_orders SET state = 'refunded', refund_reason = 'x'")
    (finding,) = audit(shop.services.database, since_checkpoint=False).findings
    assert finding.check == "refunded orders whose coins were not reversed"


def test_refund_that_failed_180_times_is_retried_and_found_by_the_audit(
    shop: PaymentScenario, paid_order: str, ann: UserClient, database_state: DatabaseState
) -> None:
    shop.provider.fails = True
    with pytest.raises(PaymentFailed):
        shop.services.payment_refunds.refund(paid_order, reason="fraud")
    for _ in range(180):
        shop.age_orders("1 hour")
        assert shop.services.payment_reconciliation.run() == (1, 1)
    (finding,) = audit(shop.services.database, since_checkpoint=False).findings
    assert finding.check == "refunds that the provider has not completed"
    shop.provider.fails = False
    shop.age_orders("1 hour")
    assert shop.services.payment_reconciliation.run() == (1, 0)
    assert (shop.state(paid_order), database_state.coins(ann)) == ("refunded", 0)
    assert audit_findings(shop) == []


def test_repeated_refund_keeps_its_first_reason_and_is_finished_by_reconciliation(
    shop: PaymentScenario, paid_order: str
) -> None:
    shop.provider.refund_is_done = False
    shop.services.payment_refunds.refund(paid_order, reason="fraud")
    assert not shop.services.payment_refunds.refund(paid_order, reason="another")
    assert {reason for _, reason in shop.provider.refunded} == {"fraud"}
    shop.provider.refund_is_done = True
    shop.age_orders("2 minutes")
    shop.services.payment_reconciliation.run()
    assert shop.state(paid_order) == "refunded"


def test_reconciliation_of_an_order_resumes_its_refund(
    shop: PaymentScenario, paid_order: str
) -> None:
    shop.provider.fails = True
    with pytest.raises(PaymentFailed):
        shop.services.payment_refunds.refund(paid_order, reason="fraud")
    shop.provider.fails = False
    shop.services.payment_reconciliation.reconcile(paid_order)
    assert shop.state(paid_order) == "refunded"


def test_refund_cancelled_by_a_concurrent_call_continues_after_its_coins_are_reversed(
    shop: PaymentScenario,
    paid_order: str,
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ann.send_gift(ben, "1")
    ben.refill("10")
    submit = shop.services.ledger_writer.submit

    def submit_after_cancellation(transfer: Transfer, *, deadline: float) -> TransferOutcome:
        monkeypatch.undo()
        with pytest.raises(RefundRefused):
            shop.services.payment_refunds.refund(paid_order, reason="first")
        assert shop.state(paid_order) == "paid"
        ben.send_gift(ann, "1")
        outcome: TransferOutcome = submit(transfer, deadline=deadline)
        return outcome

    monkeypatch.setattr(shop.services.ledger_writer, "submit", submit_after_cancellation)
    shop.provider.fails = True
    with pytest.raises(PaymentFailed):
        shop.services.payment_refunds.refund(paid_order, reason="second")
    assert (shop.state(paid_order), database_state.coins(ann)) == ("refunding", 0)
    shop.provider.fails = False
    shop.age_orders("2 minutes")
    shop.services.payment_reconciliation.run()
    assert shop.state(paid_order) == "refunded"


def test_audit_finds_a_paid_order_whose_coins_were_reversed_by_a_refund(
    shop: PaymentScenario, paid_order: str, database_state: DatabaseState
) -> None:
    shop.services.payment_refunds.refund(paid_order, reason="fraud")
    database_state.execute("UPDATE payment_orders SET state = 'paid', refund_reason = NULL")
    (finding,) = audit(shop.services.database, since_checkpoint=False).findings
    assert finding.check == "paid orders whose coins were reversed by a refund"


def test_audit_accepts_a_paid_order_whose_coins_an_operator_reversed(
    shop: PaymentScenario, paid_order: str, database_state: DatabaseState
) -> None:
    (transfer,) = database_state.rows("transfers")
    shop.services.reversals.reverse(transfer["id"], reason="fraud")
    assert audit_findings(shop) == []
