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
def payments(new_app: Callable[..., App], database_state: DatabaseState) -> PaymentScenario:
    return new_payment_scenario(new_app, database_state)


@pytest.fixture
def paid_order(payments: PaymentScenario, ann: UserClient) -> str:
    """Id of a paid order of 50 coins, created by Ann."""
    order_id = payments.order(ann, "50")
    assert payments.notify(payments.payment(order_id, 5000)) == 204
    return order_id


def audit_findings(payments: PaymentScenario) -> list[object]:
    return list(audit(payments.services.database, since_checkpoint=False).findings)


def test_refund_reverses_the_coins_and_returns_the_money_once(
    payments: PaymentScenario, paid_order: str, ann: UserClient, database_state: DatabaseState
) -> None:
    assert payments.services.payment_refunds.refund(paid_order, reason="fraud")
    assert (payments.state(paid_order), database_state.coins(ann)) == ("refunded", 0)
    assert payments.provider.refunded == [(paid_order, "fraud")]
    with database_state.assert_unchanged():
        assert payments.services.payment_refunds.refund(paid_order, reason="again")
    assert len(payments.provider.refunded) == 1
    assert audit_findings(payments) == []


def test_refund_with_insufficient_balance_changes_nothing(
    payments: PaymentScenario,
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
        payments.services.payment_refunds.refund(paid_order, reason="fraud")
    assert payments.provider.refunded == []
    assert payments.state(paid_order) == "paid"


def test_unpaid_order_is_not_refunded(
    payments: PaymentScenario, ann: UserClient, database_state: DatabaseState
) -> None:
    order_id = payments.order(ann)
    with database_state.assert_unchanged(), pytest.raises(RefundRefused, match="the state pending"):
        payments.services.payment_refunds.refund(order_id, reason="fraud")


def test_unknown_order_is_not_refunded(
    payments: PaymentScenario, database_state: DatabaseState
) -> None:
    with database_state.assert_unchanged(), pytest.raises(LookupError):
        payments.services.payment_refunds.refund("0" * 32, reason="fraud")


def test_failed_refund_is_retried_by_reconciliation(
    payments: PaymentScenario, paid_order: str, ann: UserClient, database_state: DatabaseState
) -> None:
    payments.provider.fails = True
    with pytest.raises(PaymentFailed):
        payments.services.payment_refunds.refund(paid_order, reason="fraud")
    assert (payments.state(paid_order), database_state.coins(ann)) == ("refunding", 0)
    payments.provider.fails = False
    payments.age_orders("2 minutes")
    assert payments.services.payment_reconciliation.run() == (1, 0)
    assert payments.state(paid_order) == "refunded"
    assert payments.provider.refunded == [(paid_order, "fraud")] * 2
    assert audit_findings(payments) == []


def test_refund_in_progress_is_finished_by_reconciliation(
    payments: PaymentScenario, paid_order: str
) -> None:
    payments.provider.refund_is_done = False
    assert not payments.services.payment_refunds.refund(paid_order, reason="fraud")
    assert payments.state(paid_order) == "refunding"
    payments.provider.refund_is_done = True
    payments.age_orders("2 minutes")
    payments.services.payment_reconciliation.run()
    assert payments.state(paid_order) == "refunded"


def test_refund_interrupted_before_the_reversal_is_resumed_by_reconciliation(
    payments: PaymentScenario,
    paid_order: str,
    ann: UserClient,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raise_unavailable(*_: object, **__: object) -> None:
        raise ServiceUnavailable("the ledger", outcome_unknown=True)

    with monkeypatch.context() as patch:
        patch.setattr(payments.services.ledger_writer, "submit", raise_unavailable)
        with pytest.raises(ServiceUnavailable):
            payments.services.payment_refunds.refund(paid_order, reason="fraud")
    assert (payments.state(paid_order), database_state.coins(ann)) == ("refunding", 50)
    payments.age_orders("2 minutes")
    payments.services.payment_reconciliation.run()
    assert (payments.state(paid_order), database_state.coins(ann)) == ("refunded", 0)


def test_interrupted_refund_with_insufficient_balance_is_cancelled_by_reconciliation(
    payments: PaymentScenario,
    paid_order: str,
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raise_unavailable(*_: object, **__: object) -> None:
        raise ServiceUnavailable("the ledger")

    with monkeypatch.context() as patch:
        patch.setattr(payments.services.ledger_writer, "submit", raise_unavailable)
        with pytest.raises(ServiceUnavailable):
            payments.services.payment_refunds.refund(paid_order, reason="fraud")
    ann.send_gift(ben, "1")
    payments.age_orders("2 minutes")
    payments.services.payment_reconciliation.run()
    assert (payments.state(paid_order), database_state.coins(ann)) == ("paid", 49)
    assert payments.provider.refunded == []


def test_order_whose_coins_an_operator_reversed_is_refunded(
    payments: PaymentScenario, paid_order: str, ann: UserClient, database_state: DatabaseState
) -> None:
    (transfer,) = database_state.rows("transfers")
    payments.services.reversals.reverse(transfer["id"], reason="fraud")
    assert payments.services.payment_refunds.refund(paid_order, reason="fraud")
    assert (payments.state(paid_order), database_state.coins(ann)) == ("refunded", 0)
    assert len(database_state.rows("transfers")) == 2


def test_concurrent_refunds_reverse_the_coins_once(
    payments: PaymentScenario, paid_order: str, ann: UserClient, database_state: DatabaseState
) -> None:
    payments.order(ann)
    run_concurrently(
        *[lambda: payments.services.payment_refunds.refund(paid_order, reason="fraud")] * 8
    )
    assert (payments.state(paid_order), database_state.coins(ann)) == ("refunded", 0)
    assert len(database_state.rows("transfers")) == 2
    assert audit_findings(payments) == []


def test_refunded_order_is_not_credited_by_a_late_notification(
    payments: PaymentScenario, paid_order: str, database_state: DatabaseState
) -> None:
    payments.services.payment_refunds.refund(paid_order, reason="fraud")
    with database_state.assert_unchanged():
        assert payments.notify(payments.payment(paid_order, 5000)) == 204


def test_audit_finds_a_refunded_order_whose_coins_were_not_reversed(
    payments: PaymentScenario, paid_order: str, database_state: DatabaseState
) -> None:
    database_state.execute("UPDATE payment_orders SET state = 'refunded', refund_reason = 'x'")
    (finding,) = audit(payments.services.database, since_checkpoint=False).findings
    assert finding.check == "refunded orders whose coins were not reversed"


def test_refund_that_failed_180_times_is_retried_and_found_by_the_audit(
    payments: PaymentScenario, paid_order: str, ann: UserClient, database_state: DatabaseState
) -> None:
    payments.provider.fails = True
    with pytest.raises(PaymentFailed):
        payments.services.payment_refunds.refund(paid_order, reason="fraud")
    for _ in range(180):
        payments.age_orders("1 hour")
        assert payments.services.payment_reconciliation.run() == (1, 1)
    (finding,) = audit(payments.services.database, since_checkpoint=False).findings
    assert finding.check == "refunds that the provider has not completed"
    payments.provider.fails = False
    payments.age_orders("1 hour")
    assert payments.services.payment_reconciliation.run() == (1, 0)
    assert (payments.state(paid_order), database_state.coins(ann)) == ("refunded", 0)
    assert audit_findings(payments) == []


def test_repeated_refund_keeps_its_first_reason_and_is_finished_by_reconciliation(
    payments: PaymentScenario, paid_order: str
) -> None:
    payments.provider.refund_is_done = False
    payments.services.payment_refunds.refund(paid_order, reason="fraud")
    assert not payments.services.payment_refunds.refund(paid_order, reason="another")
    assert {reason for _, reason in payments.provider.refunded} == {"fraud"}
    payments.provider.refund_is_done = True
    payments.age_orders("2 minutes")
    payments.services.payment_reconciliation.run()
    assert payments.state(paid_order) == "refunded"


def test_reconciliation_of_an_order_resumes_its_refund(
    payments: PaymentScenario, paid_order: str
) -> None:
    payments.provider.fails = True
    with pytest.raises(PaymentFailed):
        payments.services.payment_refunds.refund(paid_order, reason="fraud")
    payments.provider.fails = False
    payments.services.payment_reconciliation.reconcile(paid_order)
    assert payments.state(paid_order) == "refunded"


def test_refund_cancelled_by_a_concurrent_call_continues_after_its_coins_are_reversed(
    payments: PaymentScenario,
    paid_order: str,
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ann.send_gift(ben, "1")
    ben.refill("10")
    submit = payments.services.ledger_writer.submit

    def submit_after_cancellation(transfer: Transfer, *, deadline: float) -> TransferOutcome:
        monkeypatch.undo()
        with pytest.raises(RefundRefused):
            payments.services.payment_refunds.refund(paid_order, reason="first")
        assert payments.state(paid_order) == "paid"
        ben.send_gift(ann, "1")
        outcome: TransferOutcome = submit(transfer, deadline=deadline)
        return outcome

    monkeypatch.setattr(payments.services.ledger_writer, "submit", submit_after_cancellation)
    payments.provider.fails = True
    with pytest.raises(PaymentFailed):
        payments.services.payment_refunds.refund(paid_order, reason="second")
    assert (payments.state(paid_order), database_state.coins(ann)) == ("refunding", 0)
    payments.provider.fails = False
    payments.age_orders("2 minutes")
    payments.services.payment_reconciliation.run()
    assert payments.state(paid_order) == "refunded"


def test_audit_finds_a_paid_order_whose_coins_were_reversed_by_a_refund(
    payments: PaymentScenario, paid_order: str, database_state: DatabaseState
) -> None:
    payments.services.payment_refunds.refund(paid_order, reason="fraud")
    database_state.execute("UPDATE payment_orders SET state = 'paid', refund_reason = NULL")
    (finding,) = audit(payments.services.database, since_checkpoint=False).findings
    assert finding.check == "paid orders whose coins were reversed by a refund"


def test_audit_accepts_a_paid_order_whose_coins_an_operator_reversed(
    payments: PaymentScenario, paid_order: str, database_state: DatabaseState
) -> None:
    (transfer,) = database_state.rows("transfers")
    payments.services.reversals.reverse(transfer["id"], reason="fraud")
    assert audit_findings(payments) == []
