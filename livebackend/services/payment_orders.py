"""Payment orders: a refill opens an order, a notification credits the coins."""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, text

from livebackend.core.errors import (
    InvalidNotification,
    LedgerBusy,
    OrderPaidTwice,
    PaymentNotPlaced,
    PaymentOfAnotherOrder,
    PaymentRejected,
    RequestIdReused,
    ServiceUnavailable,
    UnknownOrder,
    WrongAmount,
)
from livebackend.database.engine import Database, require_replication
from livebackend.gateways.payments.protocol import (
    InvalidSignature,
    Order,
    PaymentFailed,
    PaymentGateway,
    ProviderPayment,
)
from livebackend.ledger.coin_accounts import external_account
from livebackend.ledger.transfers import (
    CoinAccount,
    Payment,
    Transfer,
    TransferKind,
    TransferStatus,
    TransferSubmitter,
    client_request_id,
    derive_request_id,
)

log = logging.getLogger(__name__)

_FEN_PER_YUAN = 100
_LEDGER_TIMEOUT_S = 4

# The ledger acquires the same row lock, so a request id cannot get both an order and a transfer.
_LOCK_ACTOR = text(
    """
    SELECT coin_account_id FROM coin_slots
    JOIN coin_accounts ON coin_accounts.id = coin_account_id
    WHERE owner_id = :account_id AND slot = 0 FOR NO KEY UPDATE OF coin_slots
    """
)
_TRANSFER_BY_REQUEST_ID = text(
    """
    SELECT kind, amount FROM transfers
    WHERE actor_id = :actor AND request_id = CAST(:request_id AS uuid)
    """
)
_ORDER_BY_REQUEST_ID = text(
    """
    SELECT provider, order_id, fen, coins, state FROM payment_orders
    WHERE account_id = :account_id AND request_id = CAST(:request_id AS uuid)
    """
)
_INSERT_ORDER = text(
    """
    INSERT INTO payment_orders (provider, order_id, account_id, request_id, fen, coins)
    VALUES (:provider, :order_id, :account_id, CAST(:request_id AS uuid), :fen, :coins)
    RETURNING provider, order_id, fen, coins, state
    """
)
_ORDER_BY_ID = text(
    """
    SELECT coin_accounts.id AS coin_account_id, fen, coins, payment_id,
        EXISTS (SELECT FROM payment_orders AS other WHERE other.provider = :provider
            AND other.payment_id = :payment_id AND other.order_id <> :order_id) AS paid_another
    FROM payment_orders JOIN coin_accounts ON owner_id = account_id
    WHERE payment_orders.provider = :provider AND order_id = :order_id
    """
)
_REOPEN_ORDER = text(
    """
    UPDATE payment_orders
    SET state = 'pending', query_attempts = 0, next_query_at = clock_timestamp()
    WHERE provider = :provider AND order_id = :order_id AND state = 'closed'
    """
)


OrderState = Literal["pending", "paid", "closed", "refunding", "refunded"]


class PlacedOrder(NamedTuple):
    """An order of a user, with the payment parameters for the provider's SDK.

    `pay` is None if the order cannot be paid.
    """

    provider: str
    order_id: str
    fen: int
    coins: int
    state: OrderState
    pay: dict[str, Any] | None


class _OrderToCredit(NamedTuple):
    """The row of an order, and the id of the provider's coin account that is debited."""

    row: Row[Any]
    debit_id: int


class PaymentOrders:
    """Opens orders at the first gateway, and credits payments from all gateways.

    No database connection is held while a provider handles a request.
    """

    def __init__(
        self, database: Database, writer: TransferSubmitter, gateways: Sequence[PaymentGateway]
    ) -> None:
        self._database = database
        self._writer = writer
        self._gateways = {gateway.provider: gateway for gateway in gateways}

    @property
    def providers(self) -> list[str]:
        """The providers that have a gateway; the first one gets new orders."""
        return list(self._gateways)

    def gateway(self, provider: str) -> PaymentGateway:
        """Return a provider's gateway. Raises PaymentFailed if the provider has none."""
        try:
            return self._gateways[provider]
        except KeyError:
            message = f"no gateway for payment provider {provider}: add it to payments.gateway"
            raise PaymentFailed(message) from None

    def open(
        self, account_id: int, *, yuan: int, coins: int, request_id: str
    ) -> PlacedOrder | None:
        """Open an order, place it at the provider, and return it.

        A retry returns the same order, or None if the first request credited the coins directly
        because the refill mode was `direct`.
        Raises RequestIdReused, and PaymentNotPlaced if the provider fails: the order stays open,
        and a retry places it again.
        """
        fen = yuan * _FEN_PER_YUAN

        def find_or_insert_order(connection: Connection) -> Row[Any] | None:
            return self._find_or_insert_order(connection, account_id, fen, coins, request_id)

        order = self._database.run(find_or_insert_order)
        if order is None:
            return None
        pay = self._place(order) if order.state == "pending" else None
        return PlacedOrder(order.provider, order.order_id, order.fen, order.coins, order.state, pay)

    def receive(self, headers: Mapping[str, str], body: bytes) -> None:
        """Verify a notification of a provider, and credit the payment that it reports.

        Header names must be in lower case. Raises InvalidNotification if no gateway accepts the
        signature, and the errors of `settle`.
        """
        notification = self._verify_notification(headers, body)
        if notification:
            self.settle(*notification)

    def settle(self, provider: str, payment: ProviderPayment) -> None:
        """Credit the coins of a paid order, even if the order is closed.

        Does nothing if the order is credited already. Raises PaymentRejected for an unknown order,
        a wrong amount and a second payment of the same order, and ServiceUnavailable if the payment
        cannot be credited now.
        """
        deadline = time.monotonic() + _LEDGER_TIMEOUT_S
        order = self._database.run(
            lambda connection: self._find_order(connection, provider, payment)
        )
        if order.row.payment_id is None:
            self._credit(_build_refill(order, provider, payment), deadline)
            # The order is read again, because a concurrent payment can have settled it first.
            order = self._database.run(
                lambda connection: self._find_order(connection, provider, payment)
            )
        if order.row.payment_id != payment.payment_id:
            raise _log_rejection(payment, OrderPaidTwice())

    def _verify_notification(
        self, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, ProviderPayment] | None:
        """Verify a notification; return its provider and payment.

        Returns None if the notification reports no payment. Raises InvalidNotification if no
        gateway accepts the signature.
        """
        errors = []
        for provider, gateway in self._gateways.items():
            try:
                payment = gateway.verify_notification(headers, body)
            except InvalidSignature as error:
                errors.append(f"{provider}: {error}")
            else:
                return (provider, payment) if payment else None
        log.warning("payment notification rejected: %s", ", ".join(errors))
        raise InvalidNotification

    def _find_or_insert_order(
        self, connection: Connection, account_id: int, fen: int, coins: int, request_id: str
    ) -> Row[Any] | None:
        actor_id = connection.execute(_LOCK_ACTOR, {"account_id": account_id}).scalar_one()
        request_values = {
            "actor": actor_id,
            "request_id": str(client_request_id(actor_id, request_id)),
        }
        # The queries run after the lock in separate statements, so that they see what other
        # transactions committed while this transaction waited for the lock.
        transfer = connection.execute(_TRANSFER_BY_REQUEST_ID, request_values).one_or_none()
        if transfer:
            if tuple(transfer) != (TransferKind.REFILL, coins):
                raise RequestIdReused
            require_replication(connection)
            return None
        order_values = {**request_values, "account_id": account_id, "fen": fen}
        existing_order = connection.execute(_ORDER_BY_REQUEST_ID, order_values).one_or_none()
        if existing_order:
            if existing_order.fen != fen:
                raise RequestIdReused
            require_replication(connection)
            return existing_order
        order_values |= {
            "provider": self.providers[0],
            "order_id": uuid.uuid4().hex,
            "coins": coins,
        }
        return connection.execute(_INSERT_ORDER, order_values).one()

    def _place(self, order: Row[Any]) -> dict[str, Any]:
        """Place a pending order at its provider; return the payment parameters."""
        try:
            pay = self.gateway(order.provider).place(provider_order(order))
        except PaymentFailed as error:
            log.error(
                "payment order %s: placing it at the provider failed: %s", order.order_id, error
            )
            raise PaymentNotPlaced from error
        # An order that was closed meanwhile is reopened, because the user can now pay it.
        # Reconciliation closes it later if the user does not pay.
        self._database.execute_one(_REOPEN_ORDER, **order._asdict())
        return pay

    def _credit(self, transfer: Transfer, deadline: float) -> None:
        try:
            outcome = self._writer.submit(transfer, deadline=deadline)
        except LedgerBusy as error:
            raise ServiceUnavailable("the ledger did not accept the transfer in time") from error
        if outcome.status is TransferStatus.BALANCE_LIMIT:
            order_id = transfer.payment.order_id if transfer.payment else None
            log.error("payment order %s: not credited, the balance limit is reached", order_id)
            raise ServiceUnavailable(f"payment order {order_id}: the balance limit is reached")

    def _find_order(
        self, connection: Connection, provider: str, payment: ProviderPayment
    ) -> _OrderToCredit:
        values = {
            "provider": provider,
            "order_id": payment.order_id,
            "payment_id": payment.payment_id,
        }
        row = connection.execute(_ORDER_BY_ID, values).one_or_none()
        if row is None:
            raise _log_rejection(payment, UnknownOrder())
        if row.fen != payment.fen:
            raise _log_rejection(payment, WrongAmount())
        if row.paid_another:
            raise _log_rejection(payment, PaymentOfAnotherOrder())
        if row.payment_id:
            # The provider does not repeat an acknowledged notification, so the credit must be
            # durable.
            require_replication(connection)
        return _OrderToCredit(row, external_account(connection, provider))


def provider_order(order: Row[Any]) -> Order:
    """Convert an order row to the `Order` that gateways accept."""
    return Order(order.order_id, order.fen, f"{order.coins} coins")


def _build_refill(order: _OrderToCredit, provider: str, payment: ProviderPayment) -> Transfer:
    account = order.row.coin_account_id
    return Transfer(
        kind=TransferKind.REFILL,
        actor_id=account,
        debit=CoinAccount(order.debit_id, external=True),
        credit=CoinAccount(account),
        amount=order.row.coins,
        request_id=derive_request_id(f"order at {provider}", account, payment.order_id),
        payment=Payment(provider, payment.order_id, payment.payment_id, payment.paid_at),
    )


def _log_rejection(payment: ProviderPayment, error: PaymentRejected) -> PaymentRejected:
    log.error(
        "payment %s of order %s not credited: %s",
        payment.payment_id,
        payment.order_id,
        error,
    )
    return error
