"""An application with a fake payment provider, and helpers for payment orders."""

from collections.abc import Callable
from typing import Any

from webtest import TestApp

from livebackend.development.payments import DevelopmentPayments
from livebackend.gateways.payments.protocol import OrderState, ProviderOrder, ProviderPayment
from tests.support.api import App, UserClient
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import FakePayments

FAKE_PAYMENTS = "tests.support.fake_gateways.FakePayments"
SECOND_FAKE_PAYMENTS = "tests.support.fake_gateways.SecondFakePayments"


class PaymentScenario:
    """An application that sells coins, and the fake provider of its payments."""

    def __init__(self, app: App, database_state: DatabaseState, provider: str = "embedded") -> None:
        self.app = app
        self.services = app.registry.services
        self._database_state = database_state
        gateways = {gateway.provider: gateway for gateway in self.services.gateways.payments}
        gateway = gateways[provider]
        assert isinstance(gateway, FakePayments)
        gateway.reset()
        self.provider = gateway

    def order(self, user: UserClient, money: str = "10", **parameters: str) -> str:
        """Order coins as a user; return the order's id."""
        response = user.with_app(self.app).refill(money, **parameters)
        assert response.result == "0000", response
        return str(response.message["orderId"])

    def payment(self, order_id: str, fen: int = 1000, **changed_fields: Any) -> ProviderPayment:
        return ProviderPayment(order_id, f"paid-{order_id[:8]}", fen)._replace(**changed_fields)

    def pay(self, order_id: str, fen: int = 1000, **changed_fields: Any) -> ProviderPayment:
        """Record a payment of the order at the fake provider; send no notification."""
        payment = self.payment(order_id, fen, **changed_fields)
        self.provider.orders[order_id] = ProviderOrder(OrderState.PAID, payment)
        return payment

    def notify(self, payment: ProviderPayment) -> int:
        """Send the application a signed payment notification; return the HTTP status."""
        return notify(self.app, self.provider, payment)

    def age_orders(self, interval: str) -> None:
        """Subtract a PostgreSQL interval from the timestamps of all orders."""
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


def notify(app: App, provider: DevelopmentPayments, payment: ProviderPayment) -> int:
    headers, body = provider.notification(payment)
    response = TestApp(app).post("/payments", body, headers=headers, status="*")
    return int(response.status_int)


def new_payment_scenario(
    new_app: Callable[..., App], database_state: DatabaseState
) -> PaymentScenario:
    return PaymentScenario(
        new_app(coins__refill="order", payments__gateway=FAKE_PAYMENTS), database_state
    )
