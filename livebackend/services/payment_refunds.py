"""Refunds of payment orders: reversal of the coins, then return of the money."""

import logging
import time
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from livebackend.core.errors import LedgerBusy, ServiceUnavailable
from livebackend.database.engine import Database
from livebackend.ledger.reversals import build_reversal
from livebackend.ledger.transfers import TransferStatus, TransferSubmitter
from livebackend.services.payment_orders import PaymentOrders, provider_order

log = logging.getLogger(__name__)

_LEDGER_TIMEOUT_S = 4

# Housekeeping resumes the refund after 1 minute. The call of `refund` that began the refund has
# ended by then.
_BEGIN_REFUND = text(
    """
    UPDATE payment_orders
    SET state = 'refunding', refund_reason = coalesce(refund_reason, :reason), query_attempts = 0,
        next_query_at = clock_timestamp() + interval '1 minute'
    WHERE order_id = :order_id AND state IN ('paid', 'refunding')
    """
)
_FIND_ORDER = text(
    """
    SELECT provider, order_id, fen, coins, state, transfer_id, refund_reason FROM payment_orders
    WHERE order_id = :order_id
    """
)
_CANCEL_REFUND = text(
    """
    UPDATE payment_orders SET state = 'paid', refund_reason = NULL, next_query_at = NULL
    WHERE order_id = :order_id AND state = 'refunding'
        AND NOT EXISTS (SELECT FROM transfers WHERE reverses_id = payment_orders.transfer_id)
    """
)
# The statement sets the state `refunding` again, because a concurrent call can cancel the refund
# (insufficient coins) before this call reverses the coins.
_CONFIRM_REFUND = text(
    """
    UPDATE payment_orders
    SET state = 'refunding', refund_reason = :refund_reason,
        next_query_at = coalesce(next_query_at, clock_timestamp() + interval '1 minute')
    WHERE order_id = :order_id AND state IN ('paid', 'refunding')
    """
)
_FINISH_REFUND = text(
    """
    UPDATE payment_orders
    SET state = 'refunded', refund_reason = :refund_reason, next_query_at = NULL
    WHERE order_id = :order_id AND state IN ('paid', 'refunding')
    """
)


class RefundRefused(Exception):
    """The order cannot be refunded, and nothing changed. The error text is the reason."""


class PaymentRefunds:
    """Refunds paid orders.

    A refund first stores the state `refunding`, so that housekeeping resumes an interrupted refund.
    """

    def __init__(
        self, database: Database, writer: TransferSubmitter, orders: PaymentOrders
    ) -> None:
        self._database = database
        self._writer = writer
        self._orders = orders

    def refund(self, order_id: str, *, reason: str) -> bool:
        """Refund a paid order: reverse its coins, then have the provider return the money.

        Returns True if the money is returned, False if the provider still processes the refund.
        A second refund of the order returns no more money. Raises LookupError for an unknown order,
        and RefundRefused if the order is not paid or the user has spent the coins. Raises
        PaymentFailed if the provider fails, and ServiceUnavailable if the ledger fails;
        housekeeping then resumes the refund.
        """
        values = {"order_id": order_id, "reason": reason}

        def begin_refund(connection: Connection) -> Row[Any]:
            connection.execute(_BEGIN_REFUND, values)
            return _find_order(connection, order_id)

        return self._resume(self._database.run(begin_refund))

    def resume(self, order_id: str) -> bool:
        """Resume a refund. The result and the errors are those of `refund`."""
        return self._resume(
            self._database.run(lambda connection: _find_order(connection, order_id))
        )

    def _resume(self, order: Row[Any]) -> bool:
        if order.state == "refunded":
            return True
        if order.state != "refunding":
            raise RefundRefused(f"the order has the state {order.state}, so it cannot be refunded")
        # The gateway is found first, so that no coins move if the provider has no gateway.
        gateway = self._orders.gateway(order.provider)
        transfer = self._database.run(
            lambda connection: build_reversal(connection, order.transfer_id)
        )
        try:
            outcome = self._writer.submit(transfer, deadline=time.monotonic() + _LEDGER_TIMEOUT_S)
        except LedgerBusy as error:
            raise ServiceUnavailable("the ledger did not accept the transfer in time") from error
        if outcome.status is TransferStatus.INSUFFICIENT_COINS:
            self._update_order(_CANCEL_REFUND, order)
            raise RefundRefused(f"the balance is lower than the {order.coins} coins of the order")
        if outcome.status not in (TransferStatus.DONE, TransferStatus.REPLAYED):
            raise RefundRefused(f"the coins were not reversed: {outcome.status.value}")
        self._update_order(_CONFIRM_REFUND, order)
        is_returned = gateway.refund(provider_order(order), reason=order.refund_reason)
        if is_returned:
            self._update_order(_FINISH_REFUND, order)
            log.info("payment order %s: refunded", order.order_id)
        return is_returned

    def _update_order(self, statement: TextClause, order: Row[Any]) -> None:
        self._database.execute_one(statement, **order._asdict())


def _find_order(connection: Connection, order_id: str) -> Row[Any]:
    order = connection.execute(_FIND_ORDER, {"order_id": order_id}).one_or_none()
    if order is None:
        raise LookupError(f"there is no order {order_id}")
    return order
