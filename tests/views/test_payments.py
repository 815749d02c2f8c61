"""Tests of refill orders and of payment notifications."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from webtest import TestApp

from livebackend.core.errors import LedgerBusy, ServiceUnavailable
from livebackend.core.signing import derived_key
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.payments import DevelopmentPayments
from livebackend.gateways.payments.protocol import Order, ProviderPayment
from livebackend.models import MAX_SLOT_COINS
from tests.support.api import ApiResponse, App, UserClient, run_concurrently
from tests.support.application import DEVELOPMENT_INI, DEVELOPMENT_SECRET
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import FakePayments
from tests.support.payments import FAKE_PAYMENTS, SECOND_FAKE_PAYMENTS
from tests.support.servers import running_server

COINS_NOT_UPDATED = {"result": "0013", "message": "update failed"}
INVALID_REQUEST = {"result": "0003", "message": None}


@pytest.fixture
def app_with_payments(new_app: Callable[..., App]) -> App:
    """An application whose refills create payment orders."""
    return new_app(coins__refill="order", payments__gateway=FAKE_PAYMENTS)


@pytest.fixture
def payments(app_with_payments: App) -> FakePayments:
    (gateway,) = app_with_payments.registry.services.gateways.payments
    assert isinstance(gateway, FakePayments)
    gateway.reset()
    return gateway


@pytest.fixture
def buyer(app_with_payments: App, ann: UserClient) -> UserClient:
    return ann.with_app(app_with_payments)


def create_order(buyer: UserClient, money: str = "10", **params: str) -> dict[str, Any]:
    response = buyer.refill(money, **params)
    assert response.result == "0000", response
    return dict(response.message)


def payment_of(order: dict[str, Any], **changed_fields: Any) -> ProviderPayment:
    """Return the provider's record of a payment for an order."""
    payment_id = f"paid-{order['orderId'][:8]}"
    return ProviderPayment(order["orderId"], payment_id, order["fen"])._replace(**changed_fields)


def post_notification(app_with_payments: App, headers: dict[str, str], body: bytes) -> Any:
    return TestApp(app_with_payments).post("/payments", body, headers=headers, status="*")


def notify_payment(app: App, gateway: DevelopmentPayments, payment: ProviderPayment) -> int:
    """Send a notification signed by `gateway`; return the status of the response."""
    response = post_notification(app, *gateway.notification(payment))
    assert response.body == b"" if response.status_int == 204 else response.json == INVALID_REQUEST
    return int(response.status_int)


class TestOrders:
    def test_new_order_is_pending_and_moves_no_coins(
        self, buyer: UserClient, database_state: DatabaseState
    ) -> None:
        order = create_order(buyer, "50")
        order_id = order["orderId"]
        assert order == {
            "provider": "embedded",
            "orderId": order_id,
            "fen": 5000,
            "coins": 50,
            "state": "pending",
            "pay": {"orderId": order_id, "fen": 5000},
        }
        assert database_state.coins(buyer) == 0
        assert database_state.rows("transfers") == []

    def test_each_refill_without_a_request_id_creates_an_order(self, buyer: UserClient) -> None:
        assert create_order(buyer)["orderId"] != create_order(buyer)["orderId"]

    def test_retry_of_a_refill_returns_the_same_order(
        self, buyer: UserClient, database_state: DatabaseState
    ) -> None:
        first_order = create_order(buyer, requestId="r")
        assert create_order(buyer, "10元", requestId="r") == first_order
        assert len(database_state.rows("payment_orders")) == 1

    def test_twenty_concurrent_refills_with_one_request_id_create_one_order(
        self, buyer: UserClient, database_state: DatabaseState
    ) -> None:
        orders = run_concurrently(*[lambda: create_order(buyer, requestId="r")] * 20)
        assert len({order["orderId"] for order in orders}) == 1
        assert len(database_state.rows("payment_orders")) == 1

    def test_refill_order_with_a_used_request_id_and_another_amount_returns_0013(
        self, buyer: UserClient, database_state: DatabaseState
    ) -> None:
        create_order(buyer, requestId="r")
        with database_state.assert_unchanged():
            response = buyer.refill("50", requestId="r")
        assert (response.body, response.error) == (
            COINS_NOT_UPDATED,
            "requestId; reason=request_id_reused",
        )

    def test_request_id_of_an_order_cannot_be_used_for_a_gift_or_vice_versa(
        self, buyer: UserClient, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.refill("100")
        create_order(buyer, requestId="one")
        ann.send_gift(ben, "1", requestId="two")
        with database_state.assert_unchanged():
            assert buyer.send_gift(ben, "1", requestId="one").body == COINS_NOT_UPDATED
            assert buyer.refill("10", requestId="two").body == COINS_NOT_UPDATED

    def test_only_one_of_a_concurrent_gift_and_order_with_one_request_id_succeeds(
        self, buyer: UserClient, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.refill("100")
        for n in range(10):
            responses: list[ApiResponse] = run_concurrently(
                lambda n=n: buyer.refill("10", requestId=f"r{n}"),  # type: ignore[misc]
                lambda n=n: buyer.send_gift(ben, "1", requestId=f"r{n}"),  # type: ignore[misc]
            )
            assert sorted(response.result for response in responses) == ["0000", "0013"]

    def test_retry_of_a_direct_refill_creates_no_order(
        self, buyer: UserClient, ann: UserClient, database_state: DatabaseState
    ) -> None:
        ann.refill("10", requestId="r")
        with database_state.assert_unchanged():
            assert buyer.refill("10", requestId="r").body == {"result": "0000", "message": None}

    def test_refill_when_the_payment_provider_fails_returns_0013_and_keeps_the_order(
        self, buyer: UserClient, payments: FakePayments, database_state: DatabaseState
    ) -> None:
        payments.fails = True
        response = buyer.refill("10", requestId="r")
        assert (response.body, response.error) == (
            COINS_NOT_UPDATED,
            "refill; reason=upstream_failed",
        )
        payments.fails = False
        order = create_order(buyer, requestId="r")
        assert [placed.order_id for placed in payments.placed] == [order["orderId"]] * 2
        assert len(database_state.rows("payment_orders")) == 1

    def test_retry_of_a_paid_order_returns_no_payment_parameters(
        self, buyer: UserClient, app_with_payments: App, payments: FakePayments
    ) -> None:
        order = create_order(buyer, requestId="r")
        notify_payment(app_with_payments, payments, payment_of(order))
        assert create_order(buyer, requestId="r") == {**order, "state": "paid", "pay": None}
        assert len(payments.placed) == 1


class TestNotifications:
    def test_payment_notification_credits_the_coins(
        self,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        payment = payment_of(create_order(buyer, "100"))
        assert notify_payment(app_with_payments, payments, payment) == 204
        assert database_state.coins(buyer) == 100
        (row,) = database_state.rows("payment_orders")
        (transfer,) = database_state.rows("transfers")
        assert (row["state"], row["payment_id"]) == ("paid", payment.payment_id)
        assert row["transfer_id"] == transfer["id"]

    def test_repeated_payment_notification_moves_no_coins(
        self,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        payment = payment_of(create_order(buyer))
        assert notify_payment(app_with_payments, payments, payment) == 204
        with database_state.assert_unchanged():
            assert notify_payment(app_with_payments, payments, payment) == 204

    def test_twenty_concurrent_payment_notifications_credit_coins_once(
        self,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        payment = payment_of(create_order(buyer))
        assert (
            run_concurrently(*[lambda: notify_payment(app_with_payments, payments, payment)] * 20)
            == [204] * 20
        )
        assert database_state.coins(buyer) == 10

    def test_only_one_of_eight_concurrent_payments_of_an_order_is_credited(
        self,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        order = create_order(buyer)
        notifications = [
            lambda n=n: notify_payment(
                app_with_payments, payments, payment_of(order, payment_id=f"p{n}")
            )
            for n in range(8)
        ]
        assert sorted(run_concurrently(*notifications)) == [204] + [400] * 7
        assert database_state.coins(buyer) == 10

    @pytest.mark.parametrize("order_state", ["pending", "paid"])
    @pytest.mark.parametrize(
        "changed_fields", [{"fen": 999}, {"fen": 10_000}, {"fen": 0}, {"order_id": "0" * 32}]
    )
    def test_payment_notification_that_differs_from_the_order_returns_400(
        self,
        order_state: str,
        changed_fields: dict[str, Any],
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        payment = payment_of(create_order(buyer))
        if order_state == "paid":
            notify_payment(app_with_payments, payments, payment)
        with database_state.assert_unchanged():
            assert (
                notify_payment(app_with_payments, payments, payment._replace(**changed_fields))
                == 400
            )

    def test_second_payment_of_a_paid_order_returns_400(
        self,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        payment = payment_of(create_order(buyer))
        notify_payment(app_with_payments, payments, payment)
        with database_state.assert_unchanged():
            assert (
                notify_payment(app_with_payments, payments, payment._replace(payment_id="another"))
                == 400
            )

    def test_payment_that_settled_another_order_returns_400(
        self,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        payment, other_order = payment_of(create_order(buyer)), create_order(buyer)
        notify_payment(app_with_payments, payments, payment)
        with database_state.assert_unchanged():
            assert (
                notify_payment(
                    app_with_payments, payments, payment._replace(order_id=other_order["orderId"])
                )
                == 400
            )

    @pytest.mark.parametrize(
        "changed_headers",
        [
            {"X-Payment-Signature": "0" * 64},
            {"X-Payment-Signature": ""},
            {"X-Payment-Signature": "é"},
            {"X-Payment-Time": "1"},
            {"X-Payment-Time": ""},
            {"X-Payment-Time": "１"},
        ],
    )
    def test_payment_notification_with_a_wrong_signature_returns_400(
        self,
        changed_headers: dict[str, str],
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        headers, body = payments.notification(payment_of(create_order(buyer)))
        with database_state.assert_unchanged():
            response = post_notification(app_with_payments, headers | changed_headers, body)
        assert (response.status_int, response.json) == (400, INVALID_REQUEST)
        assert response.headers["X-Error"] == "notification; reason=invalid_notification"

    def test_payment_notification_with_a_changed_body_returns_400(
        self,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        headers, body = payments.notification(payment_of(create_order(buyer)))
        with database_state.assert_unchanged():
            for changed_body in (body + b" ", body[:-1], b"", b"\xff"):
                assert post_notification(app_with_payments, headers, changed_body).status_int == 400

    @pytest.mark.usefixtures("payments")
    def test_payment_notification_with_a_time_301_s_in_the_past_or_future_returns_400(
        self, buyer: UserClient, app_with_payments: App, database_state: DatabaseState
    ) -> None:
        key = derived_key(DEVELOPMENT_SECRET, "payments")

        def notification(age_s: float) -> tuple[dict[str, str], bytes]:
            provider = DevelopmentPayments("http://x", key=key, clock=lambda: time.time() - age_s)
            return provider.notification(payment)

        payment = payment_of(create_order(buyer))
        for age_s in (301, -301):
            with database_state.assert_unchanged():
                assert post_notification(app_with_payments, *notification(age_s)).status_int == 400
        assert post_notification(app_with_payments, *notification(0)).status_int == 204

    def test_payment_notification_signed_with_another_key_returns_400(
        self,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        other_provider = DevelopmentPayments("http://x", key=b"another", clock=time.time)
        headers, body = other_provider.notification(payment_of(create_order(buyer)))
        with database_state.assert_unchanged():
            assert post_notification(app_with_payments, headers, body).status_int == 400

    @pytest.mark.parametrize(
        "error",
        [
            ServiceUnavailable("the ledger's queue"),
            ServiceUnavailable("the ledger", outcome_unknown=True),
            LedgerBusy(),
        ],
    )
    def test_payment_notification_when_the_ledger_fails_returns_503_and_succeeds_later(
        self,
        error: Exception,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def raise_error(*_: object, **__: object) -> None:
            raise error

        payment = payment_of(create_order(buyer))
        with monkeypatch.context() as patch:
            patch.setattr(app_with_payments.registry.services.ledger_writer, "submit", raise_error)
            assert notify_payment(app_with_payments, payments, payment) == 503
        assert notify_payment(app_with_payments, payments, payment) == 204
        assert database_state.coins(buyer) == 10

    def test_payment_notification_for_a_removed_account_is_credited(
        self,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        payment = payment_of(create_order(buyer))
        remove_response = buyer.post("/register", remove="1", password="harbour-42")
        assert remove_response.result == "0000"
        assert notify_payment(app_with_payments, payments, payment) == 204
        assert len(database_state.rows("transfers")) == 1


class TestSettings:
    """The server credits payments of existing orders after a change of the settings."""

    @pytest.mark.parametrize("refill_mode", ["order", "direct", "disabled"])
    def test_payment_of_a_pending_order_is_credited_in_every_refill_mode(
        self,
        refill_mode: str,
        new_app: Callable[..., App],
        buyer: UserClient,
        database_state: DatabaseState,
    ) -> None:
        payment = payment_of(create_order(buyer))
        app = new_app(coins__refill=refill_mode, payments__gateway=FAKE_PAYMENTS)
        assert (
            notify_payment(app, app.registry.services.payment_orders.gateway("embedded"), payment)
            == 204
        )
        assert database_state.coins(buyer) == 10

    @pytest.mark.parametrize(
        "gateway_names",
        [f"{SECOND_FAKE_PAYMENTS} {FAKE_PAYMENTS}", f"{FAKE_PAYMENTS} {SECOND_FAKE_PAYMENTS}"],
    )
    def test_payments_of_every_gateway_are_credited(
        self,
        gateway_names: str,
        new_app: Callable[..., App],
        buyer: UserClient,
        ann: UserClient,
        database_state: DatabaseState,
    ) -> None:
        payment = payment_of(create_order(buyer))
        app = new_app(coins__refill="order", payments__gateway=gateway_names)
        first_provider = "other" if gateway_names.startswith(SECOND_FAKE_PAYMENTS) else "embedded"
        order = create_order(ann.with_app(app))
        assert order["provider"] == first_provider
        find_gateway = app.registry.services.payment_orders.gateway
        assert notify_payment(app, find_gateway("embedded"), payment) == 204
        assert notify_payment(app, find_gateway(first_provider), payment_of(order)) == 204
        assert database_state.coins(ann) == 20

    def test_payment_of_an_unconfigured_gateway_returns_400_and_is_credited_later(
        self, new_app: Callable[..., App], buyer: UserClient, database_state: DatabaseState
    ) -> None:
        payment = payment_of(create_order(buyer))
        app = new_app(coins__refill="order", payments__gateway=SECOND_FAKE_PAYMENTS)
        other_provider = DevelopmentPayments("http://x", key=b"another", clock=time.time)
        assert notify_payment(app, other_provider, payment) == 400
        app = new_app(
            coins__refill="order", payments__gateway=f"{SECOND_FAKE_PAYMENTS} {FAKE_PAYMENTS}"
        )
        assert (
            notify_payment(app, app.registry.services.payment_orders.gateway("embedded"), payment)
            == 204
        )
        assert database_state.coins(buyer) == 10

    def test_retry_of_an_order_keeps_its_payment_provider(
        self, new_app: Callable[..., App], buyer: UserClient, ann: UserClient
    ) -> None:
        order = create_order(buyer, requestId="r")
        app = new_app(
            coins__refill="order", payments__gateway=f"{SECOND_FAKE_PAYMENTS} {FAKE_PAYMENTS}"
        )
        returned_order = create_order(ann.with_app(app), requestId="r")
        assert returned_order == order

    @pytest.mark.parametrize("refill_mode", ["order", "direct", "disabled"])
    def test_retry_of_a_paid_order_succeeds_in_every_refill_mode(
        self,
        refill_mode: str,
        new_app: Callable[..., App],
        app_with_payments: App,
        payments: FakePayments,
        buyer: UserClient,
        ann: UserClient,
        database_state: DatabaseState,
    ) -> None:
        order = create_order(buyer, requestId="r")
        notify_payment(app_with_payments, payments, payment_of(order))
        app = new_app(coins__refill=refill_mode, payments__gateway=FAKE_PAYMENTS)
        with database_state.assert_unchanged():
            returned_order = create_order(ann.with_app(app), requestId="r")
        assert returned_order == {**order, "state": "paid", "pay": None}

    @pytest.mark.parametrize("refill_mode", ["order", "disabled"])
    def test_retry_of_a_direct_refill_succeeds_in_every_refill_mode(
        self,
        refill_mode: str,
        new_app: Callable[..., App],
        ann: UserClient,
        database_state: DatabaseState,
    ) -> None:
        ann.refill("10", requestId="r")
        app = new_app(coins__refill=refill_mode, payments__gateway=FAKE_PAYMENTS)
        with database_state.assert_unchanged():
            response = ann.with_app(app).refill("10", requestId="r")
        assert response.body == {"result": "0000", "message": None}

    def test_order_closed_while_it_is_placed_is_reopened_and_closed_again_later(
        self,
        app_with_payments: App,
        payments: FakePayments,
        buyer: UserClient,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        original_place = payments.place

        def close_and_place(order: Order) -> dict[str, Any]:
            database_state.execute("UPDATE payment_orders SET state = 'closed'")
            return original_place(order)

        monkeypatch.setattr(payments, "place", close_and_place)
        order = create_order(buyer)
        assert (order["state"], bool(order["pay"])) == ("pending", True)
        database_state.execute("UPDATE payment_orders SET created_at = now() - interval '3 hours'")
        assert app_with_payments.registry.services.payment_reconciliation.run() == (1, 0)
        assert payments.closed == [order["orderId"]]

    def test_retry_of_an_order_whose_provider_has_no_gateway_returns_0013(
        self, new_app: Callable[..., App], buyer: UserClient, ann: UserClient
    ) -> None:
        create_order(buyer, requestId="r")
        app = new_app(coins__refill="order", payments__gateway=SECOND_FAKE_PAYMENTS)
        response = ann.with_app(app).refill("10", requestId="r")
        assert (response.body, response.error) == (
            COINS_NOT_UPDATED,
            "refill; reason=upstream_failed",
        )


class TestBalanceLimit:
    def test_payment_over_the_balance_limit_returns_503_and_is_credited_later(
        self,
        buyer: UserClient,
        app_with_payments: App,
        payments: FakePayments,
        database_state: DatabaseState,
    ) -> None:
        payment = payment_of(create_order(buyer))
        database_state.execute(f"UPDATE coin_slots SET amount = {MAX_SLOT_COINS}")
        assert notify_payment(app_with_payments, payments, payment) == 503
        assert database_state.coins(buyer) == MAX_SLOT_COINS
        database_state.execute("UPDATE coin_slots SET amount = 0")
        assert notify_payment(app_with_payments, payments, payment) == 204
        assert database_state.coins(buyer) == 10


class TestPaymentPath:
    def test_payment_path_without_a_payment_gateway_returns_404(
        self, new_app: Callable[..., App]
    ) -> None:
        app = new_app(payments__gateway="")
        response = TestApp(app).post("/payments", b"{}", status="*")
        assert (response.status_int, response.json) == (404, INVALID_REQUEST)

    def test_payment_path_with_another_method_than_post_returns_405(
        self, app_with_payments: App
    ) -> None:
        response = TestApp(app_with_payments).get("/payments", status="*")
        assert (response.status_int, response.headers["Allow"]) == (405, "POST")

    def test_payment_notification_with_a_too_large_body_returns_413(
        self, app_with_payments: App
    ) -> None:
        assert post_notification(app_with_payments, {}, b"x" * 65_537).status_int == 413


@pytest.mark.processes
def test_development_payment_provider_pays_an_order_over_http(
    new_database: Callable[[str], str], worker_id: str, tmp_path: Any
) -> None:
    url = new_database(f"payments_{worker_id}")
    database = Database(url)
    migrate(database)
    database.close()
    settings = {"database.url": url, "coins.refill": "order"}
    with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:

        def post(path: str, **form: str) -> Any:
            response = requests.post(server.address + path, data=form, timeout=10)
            assert response.json()["result"] == "0000", response.text
            return response.json()["message"]

        account = {"userId": "13800000001", "password": "harbour-42"}
        post("/register", register="1", **account)
        token = post("/log", **account)
        order = post("/golden", refill="1", token=token, money="50")
        assert order["state"] == "pending"
        for _ in range(100):
            if post("/golden", balance="1", token=token)["coins"]:
                break
            time.sleep(0.1)
        assert post("/golden", balance="1", token=token) == {"coins": 50}
        # A repeated notification credits no coins.
        key = derived_key(DEVELOPMENT_SECRET, "payments")
        provider = DevelopmentPayments(server.address, key=key, clock=time.time)
        payment = ProviderPayment(order["orderId"], f"payment-of-{order['orderId']}", 5000)
        headers, body = provider.notification(payment)
        response = requests.post(server.address + "/payments", body, headers=headers, timeout=10)
        assert response.status_code == 204
        assert post("/golden", balance="1", token=token) == {"coins": 50}
