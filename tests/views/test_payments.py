"""Refills that are ordered, and coins that come with the provider's notification, once."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from webtest import TestApp

from livebackend.core.errors import LedgerBusy, Unavailable
from livebackend.core.signing import derived_key
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.payments import DevelopmentPayments
from livebackend.gateways.payments.protocol import Order, Paid
from livebackend.models import SLOT_COINS_MAX
from tests.support.api import Answer, App, Person, at_once
from tests.support.application import DEVELOPMENT_SECRET, INI
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import PatientPayments
from tests.support.payments import OTHER, PATIENT
from tests.support.servers import serving

REFUSED = {"result": "0013", "message": "update failed"}
NOT_A_CALL = {"result": "0003", "message": None}


@pytest.fixture
def shop(new_app: Callable[..., App]) -> App:
    """The application with ordered refills."""
    return new_app(
        coins__refill="order", payments__gateway="tests.support.fake_gateways.PatientPayments"
    )


@pytest.fixture
def payments(shop: App) -> PatientPayments:
    (gateway,) = shop.registry.services.gateways.payments
    assert isinstance(gateway, PatientPayments)
    gateway.reset()
    return gateway


@pytest.fixture
def buyer(shop: App, ann: Person) -> Person:
    return Person(shop, ann.always, ann.phone)


def order(buyer: Person, money: str = "10", **params: str) -> dict[str, Any]:
    answer = buyer.refill(money, **params)
    assert answer.result == "0000", answer
    return dict(answer.message)


def paid(ordered: dict[str, Any], **changed: Any) -> Paid:
    payment_id = f"paid-{ordered['orderId'][:8]}"
    return Paid(ordered["orderId"], payment_id, ordered["fen"])._replace(**changed)


def notify(shop: App, headers: dict[str, str], body: bytes) -> Any:
    return TestApp(shop).post("/payments", body, headers=headers, status="*")


def tell(shop: App, payments: DevelopmentPayments, said: Paid) -> int:
    """Sends a genuine notification; returns the status of the answer."""
    response = notify(shop, *payments.notification(said))
    assert response.body == b"" if response.status_int == 204 else response.json == NOT_A_CALL
    return int(response.status_int)


class TestOrdering:
    def test_an_order_waits_for_its_payment(
        self, buyer: Person, database_state: DatabaseState
    ) -> None:
        ordered = order(buyer, "50")
        order_id = ordered["orderId"]
        assert ordered == {
            "provider": "embedded",
            "orderId": order_id,
            "fen": 5000,
            "coins": 50,
            "state": "pending",
            "pay": {"orderId": order_id, "fen": 5000},
        }
        assert database_state.coins(buyer) == 0
        assert database_state.rows("transfers") == []

    def test_each_call_without_a_request_id_is_an_order(self, buyer: Person) -> None:
        assert order(buyer)["orderId"] != order(buyer)["orderId"]

    def test_a_repeated_request_gets_the_same_order(
        self, buyer: Person, database_state: DatabaseState
    ) -> None:
        first = order(buyer, requestId="r")
        assert order(buyer, "10元", requestId="r") == first
        assert len(database_state.rows("payment_orders")) == 1

    def test_twenty_at_once_get_the_same_order(
        self, buyer: Person, database_state: DatabaseState
    ) -> None:
        ordered = at_once(*[lambda: order(buyer, requestId="r")] * 20)
        assert len({each["orderId"] for each in ordered}) == 1
        assert len(database_state.rows("payment_orders")) == 1

    def test_a_request_id_with_another_amount_is_0013(
        self, buyer: Person, database_state: DatabaseState
    ) -> None:
        order(buyer, requestId="r")
        with database_state.unchanged():
            answer = buyer.refill("50", requestId="r")
        assert (answer.body, answer.refusal) == (REFUSED, "requestId was used for another content")

    def test_orders_and_gifts_share_the_request_ids(
        self, buyer: Person, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.refill("100")
        order(buyer, requestId="one")
        ann.give(ben, "1", requestId="two")
        with database_state.unchanged():
            assert buyer.give(ben, "1", requestId="one").body == REFUSED
            assert buyer.refill("10", requestId="two").body == REFUSED

    def test_a_gift_and_an_order_at_once_are_one_of_them(
        self, buyer: Person, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.refill("100")
        for n in range(10):
            answers: list[Answer] = at_once(
                lambda n=n: buyer.refill("10", requestId=f"r{n}"),  # type: ignore[misc]
                lambda n=n: buyer.give(ben, "1", requestId=f"r{n}"),  # type: ignore[misc]
            )
            assert sorted(answer.result for answer in answers) == ["0000", "0013"]

    def test_what_was_refilled_at_once_is_not_ordered_again(
        self, buyer: Person, ann: Person, database_state: DatabaseState
    ) -> None:
        ann.refill("10", requestId="r")
        with database_state.unchanged():
            assert buyer.refill("10", requestId="r").body == {"result": "0000", "message": None}

    def test_a_provider_that_fails_is_0013_and_the_order_waits(
        self, buyer: Person, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        payments.fails = True
        answer = buyer.refill("10", requestId="r")
        assert (answer.body, answer.refusal) == (REFUSED, "refill could not be done outside")
        payments.fails = False
        ordered = order(buyer, requestId="r")
        assert [each.order_id for each in payments.placed] == [ordered["orderId"]] * 2
        assert len(database_state.rows("payment_orders")) == 1

    def test_an_order_that_is_paid_asks_for_no_more(
        self, buyer: Person, shop: App, payments: PatientPayments
    ) -> None:
        ordered = order(buyer, requestId="r")
        tell(shop, payments, paid(ordered))
        assert order(buyer, requestId="r") == {**ordered, "state": "paid", "pay": None}
        assert len(payments.placed) == 1


class TestNotifications:
    def test_coins_come_with_the_payment(
        self, buyer: Person, shop: App, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        said = paid(order(buyer, "100"))
        assert tell(shop, payments, said) == 204
        assert database_state.coins(buyer) == 100
        (row,) = database_state.rows("payment_orders")
        (transfer,) = database_state.rows("transfers")
        assert (row["state"], row["payment_id"]) == ("paid", said.payment_id)
        assert row["transfer_id"] == transfer["id"]

    def test_repeated_it_moves_nothing(
        self, buyer: Person, shop: App, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        said = paid(order(buyer))
        assert tell(shop, payments, said) == 204
        with database_state.unchanged():
            assert tell(shop, payments, said) == 204

    def test_twenty_at_once_bring_coins_once(
        self, buyer: Person, shop: App, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        said = paid(order(buyer))
        assert at_once(*[lambda: tell(shop, payments, said)] * 20) == [204] * 20
        assert database_state.coins(buyer) == 10

    def test_the_first_of_two_payments_counts(
        self, buyer: Person, shop: App, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        ordered = order(buyer)
        tells = [
            lambda n=n: tell(shop, payments, paid(ordered, payment_id=f"p{n}")) for n in range(8)
        ]
        assert sorted(at_once(*tells)) == [204] + [400] * 7
        assert database_state.coins(buyer) == 10

    @pytest.mark.parametrize("state", ["pending", "paid"])
    @pytest.mark.parametrize(
        "changed", [{"fen": 999}, {"fen": 10_000}, {"fen": 0}, {"order_id": "0" * 32}]
    )
    def test_another_content_than_ordered_is_refused(
        self,
        state: str,
        changed: dict[str, Any],
        buyer: Person,
        shop: App,
        payments: PatientPayments,
        database_state: DatabaseState,
    ) -> None:
        said = paid(order(buyer))
        if state == "paid":
            tell(shop, payments, said)
        with database_state.unchanged():
            assert tell(shop, payments, said._replace(**changed)) == 400

    def test_another_payment_of_a_paid_order_is_refused(
        self, buyer: Person, shop: App, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        said = paid(order(buyer))
        tell(shop, payments, said)
        with database_state.unchanged():
            assert tell(shop, payments, said._replace(payment_id="another")) == 400

    def test_one_payment_settles_one_order(
        self, buyer: Person, shop: App, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        said, other = paid(order(buyer)), order(buyer)
        tell(shop, payments, said)
        with database_state.unchanged():
            assert tell(shop, payments, said._replace(order_id=other["orderId"])) == 400

    @pytest.mark.parametrize(
        "changed",
        [
            {"X-Payment-Signature": "0" * 64},
            {"X-Payment-Signature": ""},
            {"X-Payment-Signature": "é"},
            {"X-Payment-Time": "1"},
            {"X-Payment-Time": ""},
            {"X-Payment-Time": "１"},
        ],
    )
    def test_a_wrong_signature_is_refused(
        self,
        changed: dict[str, str],
        buyer: Person,
        shop: App,
        payments: PatientPayments,
        database_state: DatabaseState,
    ) -> None:
        headers, body = payments.notification(paid(order(buyer)))
        with database_state.unchanged():
            response = notify(shop, headers | changed, body)
        assert (response.status_int, response.json) == (400, NOT_A_CALL)
        assert response.headers["X-Refusal"] == "notification is wrong"

    def test_a_body_that_was_changed_is_refused(
        self, buyer: Person, shop: App, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        headers, body = payments.notification(paid(order(buyer)))
        with database_state.unchanged():
            for changed in (body + b" ", body[:-1], b"", b"\xff"):
                assert notify(shop, headers, changed).status_int == 400

    @pytest.mark.usefixtures("payments")
    def test_one_that_was_recorded_long_ago_is_refused(
        self, buyer: Person, shop: App, database_state: DatabaseState
    ) -> None:
        key = derived_key(DEVELOPMENT_SECRET, "payments")

        def notification(age_s: float) -> tuple[dict[str, str], bytes]:
            provider = DevelopmentPayments("http://x", key=key, clock=lambda: time.time() - age_s)
            return provider.notification(said)

        said = paid(order(buyer))
        for age_s in (301, -301):
            with database_state.unchanged():
                assert notify(shop, *notification(age_s)).status_int == 400
        assert notify(shop, *notification(0)).status_int == 204

    def test_another_servers_secret_signs_nothing(
        self, buyer: Person, shop: App, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        stranger = DevelopmentPayments("http://x", key=b"another", clock=time.time)
        headers, body = stranger.notification(paid(order(buyer)))
        with database_state.unchanged():
            assert notify(shop, headers, body).status_int == 400

    @pytest.mark.parametrize(
        "error",
        [
            Unavailable("the ledger's queue"),
            Unavailable("the ledger", outcome_unknown=True),
            LedgerBusy(),
        ],
    )
    def test_what_can_not_be_booked_now_is_503_and_booked_later(
        self,
        error: Exception,
        buyer: Person,
        shop: App,
        payments: PatientPayments,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise error

        said = paid(order(buyer))
        with monkeypatch.context() as patch:
            patch.setattr(shop.registry.services.ledger_writer, "submit", full)
            assert tell(shop, payments, said) == 503
        assert tell(shop, payments, said) == 204
        assert database_state.coins(buyer) == 10

    def test_a_refund_of_the_account_is_no_matter(
        self, buyer: Person, shop: App, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        # Whoever has removed his account in the meantime has paid all the same.
        said = paid(order(buyer))
        removed = buyer.post("/register", remove="1", password="harbour-42")
        assert removed.result == "0000"
        assert tell(shop, payments, said) == 204
        assert len(database_state.rows("transfers")) == 1


class TestSettings:
    """Payments are credited whatever the settings say by now."""

    @pytest.mark.parametrize("mode", ["order", "direct", "disabled"])
    def test_payment_of_a_pending_order_is_credited_in_every_mode(
        self, mode: str, new_app: Callable[..., App], buyer: Person, database_state: DatabaseState
    ) -> None:
        said = paid(order(buyer))
        app = new_app(coins__refill=mode, payments__gateway=PATIENT)
        assert notify_of(app, app.registry.services.payment_orders.gateway("embedded"), said) == 204
        assert database_state.coins(buyer) == 10

    @pytest.mark.parametrize("names", [f"{OTHER} {PATIENT}", f"{PATIENT} {OTHER}"])
    def test_payments_of_every_gateway_are_credited(
        self,
        names: str,
        new_app: Callable[..., App],
        buyer: Person,
        ann: Person,
        database_state: DatabaseState,
    ) -> None:
        said = paid(order(buyer))
        app = new_app(coins__refill="order", payments__gateway=names)
        first = "other" if names.startswith(OTHER) else "embedded"
        ordered = order(Person(app, ann.always, ann.phone))
        assert ordered["provider"] == first
        gateway = app.registry.services.payment_orders.gateway
        assert notify_of(app, gateway("embedded"), said) == 204
        assert notify_of(app, gateway(first), paid(ordered)) == 204
        assert database_state.coins(ann) == 20

    def test_payment_of_a_gateway_that_is_not_set_is_refused_and_credited_later(
        self, new_app: Callable[..., App], buyer: Person, database_state: DatabaseState
    ) -> None:
        said = paid(order(buyer))
        app = new_app(coins__refill="order", payments__gateway=OTHER)
        stranger = DevelopmentPayments("http://x", key=b"another", clock=time.time)
        assert notify_of(app, stranger, said) == 400
        app = new_app(coins__refill="order", payments__gateway=f"{OTHER} {PATIENT}")
        assert notify_of(app, app.registry.services.payment_orders.gateway("embedded"), said) == 204
        assert database_state.coins(buyer) == 10

    def test_retry_of_an_order_goes_to_its_own_provider(
        self, new_app: Callable[..., App], buyer: Person, ann: Person
    ) -> None:
        ordered = order(buyer, requestId="r")
        app = new_app(coins__refill="order", payments__gateway=f"{OTHER} {PATIENT}")
        again = order(Person(app, ann.always, ann.phone), requestId="r")
        assert again == ordered

    @pytest.mark.parametrize("mode", ["order", "direct", "disabled"])
    def test_retry_of_a_paid_order_is_answered_in_every_mode(
        self,
        mode: str,
        new_app: Callable[..., App],
        shop: App,
        payments: PatientPayments,
        buyer: Person,
        ann: Person,
        database_state: DatabaseState,
    ) -> None:
        ordered = order(buyer, requestId="r")
        tell(shop, payments, paid(ordered))
        app = new_app(coins__refill=mode, payments__gateway=PATIENT)
        with database_state.unchanged():
            again = order(Person(app, ann.always, ann.phone), requestId="r")
        assert again == {**ordered, "state": "paid", "pay": None}

    @pytest.mark.parametrize("mode", ["order", "disabled"])
    def test_retry_of_a_direct_refill_is_answered_in_every_mode(
        self, mode: str, new_app: Callable[..., App], ann: Person, database_state: DatabaseState
    ) -> None:
        ann.refill("10", requestId="r")
        app = new_app(coins__refill=mode, payments__gateway=PATIENT)
        with database_state.unchanged():
            answer = Person(app, ann.always, ann.phone).refill("10", requestId="r")
        assert answer.body == {"result": "0000", "message": None}

    def test_order_that_expires_while_it_is_placed_stays_pending_and_is_closed_again(
        self,
        shop: App,
        payments: PatientPayments,
        buyer: Person,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        place = payments.place

        def closed_meanwhile(ordered: Order) -> dict[str, Any]:
            database_state.execute("UPDATE payment_orders SET state = 'closed'")
            return place(ordered)

        monkeypatch.setattr(payments, "place", closed_meanwhile)
        ordered = order(buyer)
        assert (ordered["state"], bool(ordered["pay"])) == ("pending", True)
        database_state.execute("UPDATE payment_orders SET created_at = now() - interval '3 hours'")
        assert shop.registry.services.payment_reconciliation.run() == (1, 0)
        assert payments.closed == [ordered["orderId"]]

    def test_retry_of_an_order_whose_provider_has_no_gateway_is_0013(
        self, new_app: Callable[..., App], buyer: Person, ann: Person
    ) -> None:
        order(buyer, requestId="r")
        app = new_app(coins__refill="order", payments__gateway=OTHER)
        answer = Person(app, ann.always, ann.phone).refill("10", requestId="r")
        assert (answer.body, answer.refusal) == (REFUSED, "refill could not be done outside")


class TestBalanceLimit:
    def test_payment_that_the_balance_cannot_hold_is_503_and_credited_later(
        self, buyer: Person, shop: App, payments: PatientPayments, database_state: DatabaseState
    ) -> None:
        said = paid(order(buyer))
        database_state.execute(f"UPDATE coin_slots SET amount = {SLOT_COINS_MAX}")
        assert tell(shop, payments, said) == 503
        assert database_state.coins(buyer) == SLOT_COINS_MAX
        database_state.execute("UPDATE coin_slots SET amount = 0")
        assert tell(shop, payments, said) == 204
        assert database_state.coins(buyer) == 10


def notify_of(app: App, gateway: DevelopmentPayments, said: Paid) -> int:
    headers, body = gateway.notification(said)
    return int(notify(app, headers, body).status_int)


class TestThePath:
    def test_without_a_payment_gateway_the_path_is_not_found(
        self, new_app: Callable[..., App]
    ) -> None:
        app = new_app(payments__gateway="")
        response = TestApp(app).post("/payments", b"{}", status="*")
        assert (response.status_int, response.json) == (404, NOT_A_CALL)

    def test_another_method_is_405(self, shop: App) -> None:
        response = TestApp(shop).get("/payments", status="*")
        assert (response.status_int, response.headers["Allow"]) == (405, "POST")

    def test_a_large_body_is_413(self, shop: App) -> None:
        assert notify(shop, {}, b"x" * 65_537).status_int == 413


@pytest.mark.processes
def test_the_embedded_provider_pays_over_http(
    new_database: Callable[[str], str], worker_id: str, tmp_path: Any
) -> None:
    url = new_database(f"payments_{worker_id}")
    database = Database(url)
    migrate(database)
    database.close()
    changed = {"database.url": url, "coins.refill": "order"}
    with serving(INI, tmp_path, changed) as server:

        def post(path: str, **form: str) -> Any:
            answer = requests.post(server.address + path, data=form, timeout=10)
            assert answer.json()["result"] == "0000", answer.text
            return answer.json()["message"]

        someone = {"userId": "13800000001", "password": "harbour-42"}
        post("/register", register="1", **someone)
        token = post("/log", **someone)
        ordered = post("/golden", refill="1", token=token, money="50")
        assert ordered["state"] == "pending"
        for _ in range(100):
            if post("/golden", balance="1", token=token)["coins"]:
                break
            time.sleep(0.1)
        assert post("/golden", balance="1", token=token) == {"coins": 50}
        # Paid once is paid for good, however often it is said.
        key = derived_key(DEVELOPMENT_SECRET, "payments")
        provider = DevelopmentPayments(server.address, key=key, clock=time.time)
        said = Paid(ordered["orderId"], f"payment-of-{ordered['orderId']}", 5000)
        headers, body = provider.notification(said)
        answer = requests.post(server.address + "/payments", body, headers=headers, timeout=10)
        assert answer.status_code == 204
        assert post("/golden", balance="1", token=token) == {"coins": 50}
