"""Reconciliation of payment orders: asks providers about orders that no notification settled."""

import logging
import time
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from livebackend.db import Database
from livebackend.gateways.payments import OrderState, PaymentFailed
from livebackend.results import Unavailable
from livebackend.services.payment_orders import PaymentOrders, PaymentRejected, provider_order
from livebackend.services.payment_refunds import PaymentRefunds, RefundRefused

log = logging.getLogger(__name__)

# A round asks about so many orders at most, for so long.
_ORDERS_MAX = 100
_ROUND_S = 2
# 30 s, 1 min, 2 min, … 1 h after each attempt, for about a week.
_ATTEMPTS_MAX = 175

# An order is due again before the provider is asked, so that a process that dies does not keep it.
_CLAIM = text(
    """
    UPDATE payment_orders
    SET query_attempts = query_attempts + 1,
        next_query_at = CASE WHEN query_attempts + 1 < :attempts_max THEN clock_timestamp()
            + least(interval '1 hour', interval '30 seconds' * 2 ^ least(query_attempts, 10)) END
    WHERE (provider, order_id) IN (
        SELECT provider, order_id FROM payment_orders
        WHERE state IN ('pending', 'refunding') AND next_query_at <= clock_timestamp()
            AND provider = ANY(:providers)
        ORDER BY next_query_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING provider, order_id, fen, coins, state, next_query_at IS NULL AS is_last_attempt,
        created_at + :ttl <= clock_timestamp() AS has_expired
    """
)
_FIND = text(
    """
    SELECT provider, order_id, fen, coins, state, false AS is_last_attempt,
        created_at + :ttl <= clock_timestamp() AS has_expired
    FROM payment_orders WHERE order_id = :order_id
    """
)
_CLOSE = text(
    """
    UPDATE payment_orders SET state = 'closed', next_query_at = NULL
    WHERE provider = :provider AND order_id = :order_id AND state = 'pending'
    """
)


class ReconciliationResult(NamedTuple):
    """How many orders a round asked about, and for how many the provider failed."""

    queried: int
    failed: int


class PaymentReconciliation:
    """Settles paid orders, closes expired ones, and finishes refunds that were interrupted."""

    def __init__(
        self,
        database: Database,
        orders: PaymentOrders,
        refunds: PaymentRefunds,
        *,
        order_ttl: timedelta,
    ) -> None:
        self._database = database
        self._orders = orders
        self._refunds = refunds
        self._order_ttl = order_ttl

    def run(self) -> ReconciliationResult:
        """Ask about the orders that are due; begin with no further order after 2 s.

        A provider that fails is not asked again in this round.
        """
        until = time.monotonic() + _ROUND_S
        providers = self._orders.providers
        queried = failed = 0
        while providers and queried < _ORDERS_MAX and time.monotonic() < until:
            order = self._claim(providers)
            if order is None:
                break
            queried += 1
            try:
                self._reconcile(order)
            except (PaymentFailed, Unavailable) as error:
                log.warning("payment order %s: not reconciled: %s", order.order_id, error)
                providers = [each for each in providers if each != order.provider]
                failed += 1
        return ReconciliationResult(queried, failed)

    def check(self, order_id: str) -> None:
        """Ask the provider about one order now, and settle or close it.

        Raises LookupError for an unknown order, PaymentFailed, PaymentRejected and Unavailable.
        """
        values = {"order_id": order_id, "ttl": self._order_ttl}
        order = self._database.run(
            lambda connection: connection.execute(_FIND, values).one_or_none()
        )
        if order is None:
            raise LookupError(f"there is no order {order_id}")
        if order.state in ("pending", "closed"):
            self._query(order)

    def _claim(self, providers: list[str]) -> Row[Any] | None:
        values = {
            "providers": providers,
            "ttl": self._order_ttl,
            "attempts_max": _ATTEMPTS_MAX,
        }
        return self._database.run(
            lambda connection: connection.execute(_CLAIM, values).one_or_none()
        )

    def _reconcile(self, order: Row[Any]) -> None:
        try:
            if order.state == "refunding":
                self._refunds.resume(order.order_id)
            else:
                self._query(order)
        except (PaymentRejected, RefundRefused) as error:
            # The order is asked about again, in case that an operator puts it right.
            log.error("payment order %s: %s", order.order_id, error)
        finally:
            if order.is_last_attempt:
                self._close(order, "the last attempt is over")

    def _query(self, order: Row[Any]) -> None:
        gateway = self._orders.gateway(order.provider)
        found = gateway.query(provider_order(order))
        if found.state is OrderState.PAID and found.payment:
            self._orders.settle(order.provider, found.payment)
        elif found.state is OrderState.UNPAID:
            if order.has_expired:
                gateway.close(provider_order(order))
                self._close(order, "it expired unpaid")
        else:
            self._close(order, f"the provider says that it is {found.state.value}")

    def _close(self, order: Row[Any], reason: str) -> None:
        def work(connection: Connection) -> int:
            return connection.execute(_CLOSE, order._asdict()).rowcount

        if self._database.run(work):
            log.info("payment order %s: closed: %s", order.order_id, reason)
