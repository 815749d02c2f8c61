"""Payment orders: opened by a refill, settled once by the provider's signed notification."""

import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from livebackend.db import Database
from livebackend.gateways.payments import NotGenuine, Order, Paid, PaymentFailed, PaymentGateway
from livebackend.results import Failure, NotACall, Reason, Unavailable
from livebackend.services.ledger import (
    CoinAccount,
    Kind,
    Payment,
    Transfer,
    Writer,
    client_key,
    external_account,
    request_key,
)

log = logging.getLogger(__name__)

_FEN_PER_YUAN = 100
_WAIT_S = 4

# Under the same lock as the actor's transfers, so that an id is either an order's or a transfer's.
_LOCK_ACTOR = text(
    """
    SELECT coin_account_id FROM coin_slots
    JOIN coin_accounts ON coin_accounts.id = coin_account_id
    WHERE owner_id = :account_id AND slot = 0 FOR NO KEY UPDATE OF coin_slots
    """
)
_TRANSFER = text(
    """
    SELECT kind, amount FROM transfers
    WHERE actor_id = :actor AND request_id = CAST(:request_id AS uuid)
    """
)
_KNOWN = text(
    """
    SELECT provider, order_id, fen, coins, state FROM payment_orders
    WHERE account_id = :account_id AND request_id = CAST(:request_id AS uuid)
    """
)
_OPEN = text(
    """
    INSERT INTO payment_orders (provider, order_id, account_id, request_id, fen, coins)
    VALUES (:provider, :order_id, :account_id, CAST(:request_id AS uuid), :fen, :coins)
    RETURNING provider, order_id, fen, coins, state
    """
)
_ORDER = text(
    """
    SELECT coin_accounts.id AS coin_account_id, fen, coins, payment_id,
        EXISTS (SELECT FROM payment_orders AS other WHERE other.provider = :provider
            AND other.payment_id = :payment_id AND other.order_id <> :order_id) AS paid_another
    FROM payment_orders JOIN coin_accounts ON owner_id = account_id
    WHERE payment_orders.provider = :provider AND order_id = :order_id
    """
)


class _Ordered(NamedTuple):
    """An order in the books, and the account its coins come from."""

    order: Row[Any]
    source: int


class Orders:
    """Orders at one provider. No connection is held while the provider is asked."""

    def __init__(self, database: Database, writer: Writer, gateway: PaymentGateway) -> None:
        self._database = database
        self._writer = writer
        self._gateway = gateway

    def open(
        self, account_id: int, *, yuan: int, coins: int, request_id: str
    ) -> dict[str, Any] | None:
        """Orders coins; returns the order as the app reads it, with what it needs to pay.

        A repeated request gets the same order; one that brought its coins at once, before refills
        were ordered, gets none.
        Fails with: the refusal code, for a request id that was used otherwise, and for a provider
        that fails; the order is open all the same, and the same request asks the provider again.
        """
        fen = yuan * _FEN_PER_YUAN

        def work(connection: Connection) -> Row[Any] | None:
            return self._open(connection, account_id, fen, coins, request_id)

        order = self._database.run(work)
        if order is None:
            return None
        placed = None
        if order.state == "pending":
            placed = self._place(Order(order.order_id, order.fen, f"{order.coins} coins"))
        return {
            "provider": order.provider,
            "orderId": order.order_id,
            "fen": order.fen,
            "coins": order.coins,
            "state": order.state,
            "pay": placed,
        }

    def settle(self, headers: Mapping[str, str], body: bytes) -> None:
        """Books the coins of an order that a notification says was paid; repeated, nothing.

        The headers' names are in lower case.
        Raises NotACall for what the provider did not send, an unknown order, another amount than
        ordered, and a second payment of the same order; Unavailable as the ledger's writer does.
        """
        deadline = time.monotonic() + _WAIT_S
        try:
            paid = self._gateway.read(headers, body)
        except NotGenuine as error:
            log.warning("a payment's notification is refused: its %s is wrong", error)
            raise NotACall(400, "notification", Reason.WRONG) from error
        if paid is None:
            return
        order, source = self._database.run(lambda connection: self._find(connection, paid))
        if order.payment_id is None:
            self._book(self._transfer(order, source, paid), deadline)
            # By this notification, or by another at the same moment.
            order, _ = self._database.run(lambda connection: self._find(connection, paid))
        if order.payment_id != paid.payment_id:
            raise _refused(paid, "order", Reason.USED_OTHERWISE)

    def _open(
        self, connection: Connection, account_id: int, fen: int, coins: int, request_id: str
    ) -> Row[Any] | None:
        actor = connection.execute(_LOCK_ACTOR, {"account_id": account_id}).scalar_one()
        request = {"actor": actor, "request_id": str(client_key(actor, request_id))}
        # In statements of their own, so that they see what the lock's former holder committed.
        done = connection.execute(_TRANSFER, request).one_or_none()
        if done:
            if tuple(done) != (Kind.REFILL, coins):
                raise Failure(None, "requestId", Reason.USED_OTHERWISE)
            return None
        order = {
            **request,
            "account_id": account_id,
            "provider": self._gateway.provider,
            "fen": fen,
        }
        known = connection.execute(_KNOWN, order).one_or_none()
        if known:
            if (known.provider, known.fen) != (self._gateway.provider, fen):
                raise Failure(None, "requestId", Reason.USED_OTHERWISE)
            return known
        order |= {"order_id": uuid.uuid4().hex, "coins": coins}
        return connection.execute(_OPEN, order).one()

    def _place(self, order: Order) -> dict[str, Any]:
        try:
            return self._gateway.place(order)
        except PaymentFailed as error:
            log.error("order %s can't be paid yet: %s", order.order_id, error)
            raise Failure(None, "refill", Reason.OUTSIDE_FAILED) from error

    def _book(self, transfer: Transfer, deadline: float) -> None:
        try:
            self._writer.submit(transfer, deadline=deadline)
        except Failure as error:  # it was not taken in time; there is no app to be told
            raise Unavailable("the ledger") from error

    def _find(self, connection: Connection, paid: Paid) -> _Ordered:
        named = {**paid._asdict(), "provider": self._gateway.provider}
        order = connection.execute(_ORDER, named).one_or_none()
        if order is None:
            raise _refused(paid, "order", Reason.UNKNOWN)
        if order.fen != paid.fen:
            raise _refused(paid, "amount", Reason.WRONG)
        if order.paid_another:
            raise _refused(paid, "payment", Reason.USED_OTHERWISE)
        return _Ordered(order, external_account(connection, self._gateway.provider))

    def _transfer(self, order: Row[Any], source: int, paid: Paid) -> Transfer:
        mine, provider = order.coin_account_id, self._gateway.provider
        return Transfer(
            kind=Kind.REFILL,
            actor=mine,
            debit=CoinAccount(source, external=True),
            credit=CoinAccount(mine),
            amount=order.coins,
            request_id=request_key(f"order at {provider}", mine, paid.order_id),
            payment=Payment(provider, paid.order_id, paid.payment_id),
        )


def _refused(paid: Paid, what: str, reason: Reason) -> NotACall:
    # Money may have been paid for nothing: somebody must look.
    log.error("payment %s for order %s: %s %s", paid.payment_id, paid.order_id, what, reason)
    return NotACall(400, what, reason)
