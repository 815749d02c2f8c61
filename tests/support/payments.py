"""Payment orders in tests: an application with a fake payment provider."""

from collections.abc import Callable
from typing import Any

from webtest import TestApp

from livebackend.development.payments import DevelopmentPayments
from livebackend.gateways.payments.protocol import OrderState, Paid, ProviderOrder
from tests.support.api import App, Person
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import PatientPayments

PATIENT = "tests.support.fake_gateways.PatientPayments"
OTHER = "tests.support.fake_gateways.OtherPayments"


class Shop:
    """An application that sells coins, and the fake provider that takes the payments."""

    def __init__(self, app: App, database_state: DatabaseState, provider: str = "embedded") -> None:
        self.app = app
        self.services = app.registry.services
        self._database_state = database_state
        gateways = {gateway.provider: gateway for gateway in self.services.gateways.payments}
        gateway = gateways[provider]
        assert isinstance(gateway, PatientPayments)
        gateway.reset()
        self.provider = gateway

    def order(self, user: Person, money: str = "10", **parameters: str) -> str:
        """Order coins as a user; return the order's id."""
        response = Person(self.app, user.always, user.phone).refill(money, **parameters)
        assert response.result == "0000", response
        return str(response.message["orderId"])

    def payment(self, order_id: str, fen: int = 1000, **changed: Any) -> Paid:
        return Paid(order_id, f"paid-{order_id[:8]}", fen)._replace(**changed)

    def pay(self, order_id: str, fen: int = 1000, **changed: Any) -> Paid:
        """Mark an order as paid at the provider, without a notification."""
        payment = self.payment(order_id, fen, **changed)
        self.provider.orders[order_id] = ProviderOrder(OrderState.PAID, payment)
        return payment

    def notify(self, payment: Paid) -> int:
        """Send a notification with a valid signature; return the response status."""
        return notify(self.app, self.provider, payment)

    def wait(self, interval: str) -> None:
        """Make all orders older by a PostgreSQL interval."""
        self._database_state.execute(
            f"UPDATE payment_orders SET created_at = created_at - interval '{interval}',"
            f" next_query_at = next_query_at - interval '{interval}'"
        )

    def state(self, order_id: str) -> str:
        (row,) = [
            row
            for row in self._database_state.rows("payment_orders")
            if row["order_id"] == order_id
        ]
        return str(row["state"])


def notify(app: App, provider: DevelopmentPayments, payment: Paid) -> int:
    headers, body = provider.notification(payment)
    response = TestApp(app).post("/payments", body, headers=headers, status="*")
    return int(response.status_int)


def new_shop(new_app: Callable[..., App], database_state: DatabaseState) -> Shop:
    return Shop(new_app(coins__refill="order", payments__gateway=PATIENT), database_state)
