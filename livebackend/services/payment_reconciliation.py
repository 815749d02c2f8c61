"""Reconciliation: queries payment providers about orders without a notification."""

import logging
import time
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import SQLAlchemyError

from livebackend.core.errors import PaymentRejected, ServiceUnavailable
from livebackend.database.engine import Database
from livebackend.gateways.payments.protocol import OrderState, PaymentFailed
from livebackend.services.payment_orders import PaymentOrders, provider_order
from livebackend.services.payment_refunds import PaymentRefunds, RefundRefused

log = logging.getLogger(__name__)

# The limits of one call of `run`: number of orders, and seconds.
_MAX_ORDERS = 100
_MAX_RUN_S = 2
# A call of `run` stops querying a provider after this many consecutive failures. The next call
# queries the provider again.
_MAX_CONSECUTIVE_FAILURES = 3
# An unpaid order is closed after this number of queries. With delays of 30 s, 1 min, 2 min, … 1 h,
# the queries take about a week. Queries about refunds have no limit.
_MAX_QUERY_ATTEMPTS = 175

# The time of the next query is set before the query, so that the order is queried again after a
# crash. Use =, not IN: with IN, some plans run the subquery repeatedly, and claim several orders.
_CLAIM_ORDER = text(
    """
    UPDATE payment_orders
    SET query_attempts = query_attempts + 1, next_query_at = clock_timestamp()
        + least(interval '1 hour', interval '30 seconds' * 2 ^ least(query_attempts, 10))
    WHERE (provider, order_id) = (
        SELECT provider, order_id FROM payment_orders
        WHERE state IN ('pending', 'refunding') AND next_query_at <= clock_timestamp()
            AND provider = ANY(:providers)
        ORDER BY next_query_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING provider, order_id, fen, coins, state, query_attempts,
        created_at + :ttl <= clock_timestamp() AS has_expired
    """
)
_FIND_ORDER = text(
    """
    SELECT provider, order_id, fen, coins, state, query_attempts,
        created_at + :ttl <= clock_timestamp() AS has_expired
    FROM payment_orders WHERE order_id = :order_id
    """
)
_CLOSE_ORDER = text(
    """
    UPDATE payment_orders SET state = 'closed', next_query_at = NULL
    WHERE provider = :provider AND order_id = :order_id AND state = 'pending'
    """
)


class ReconciliationResult(NamedTuple):
    """The number of orders that `run` queried, and how many of the queries failed."""

    queried: int
    failed: int


class PaymentReconciliation:
    """Settles paid orders, closes expired orders, and resumes interrupted refunds."""

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
        """Reconcile up to 100 due orders; after 2 s, begin no further order.

        After three consecutive failures of a provider, this call does not query it again.
        """
        deadline = time.monotonic() + _MAX_RUN_S
        failures_by_provider = dict.fromkeys(self._orders.providers, 0)
        queried = failed = 0
        while queried < _MAX_ORDERS and time.monotonic() < deadline:
            order = self._claim(
                [name for name, n in failures_by_provider.items() if n < _MAX_CONSECUTIVE_FAILURES]
            )
            if order is None:
                break
            queried += 1
            if self._reconcile(order):
                failures_by_provider[order.provider] = 0
            else:
                failures_by_provider[order.provider] += 1
                failed += 1
        return ReconciliationResult(queried, failed)

    def reconcile(self, order_id: str) -> None:
        """Query the provider about one order: settle or close it, or resume its refund.

        Raises LookupError for an unknown order, PaymentFailed, PaymentRejected, RefundRefused and
        ServiceUnavailable.
        """
        order = self._database.execute_one(_FIND_ORDER, order_id=order_id, ttl=self._order_ttl)
        if order is None:
            raise LookupError(f"there is no order {order_id}")
        if order.state == "refunding":
            self._refunds.resume(order_id)
        elif order.state in ("pending", "closed"):
            self._query_provider(order)

    def _claim(self, providers: list[str]) -> Row[Any] | None:
        order: Row[Any] | None = self._database.execute_one(
            _CLAIM_ORDER, providers=providers, ttl=self._order_ttl
        )
        return order

    def _reconcile(self, order: Row[Any]) -> bool:
        """Reconcile an order; return False if the provider or the ledger failed."""
        succeeded = True
        try:
            if order.state == "refunding":
                self._refunds.resume(order.order_id)
            else:
                self._query_provider(order)
        except (PaymentRejected, RefundRefused) as error:
            # The provider did not fail, so `succeeded` stays True. The order is queried again, in
            # case an operator corrects it.
            log.error("payment order %s: an operator must act: %s", order.order_id, error)
        except (PaymentFailed, ServiceUnavailable) as error:
            log.warning("payment order %s: reconciliation failed: %s", order.order_id, error)
            succeeded = False
        except SQLAlchemyError:
            raise
        except Exception as error:  # a gateway bug must not block the other orders
            log.error(
                "payment order %s: reconciliation failed: unexpected exception",
                order.order_id,
                exc_info=error,
            )
            succeeded = False
        if order.query_attempts >= _MAX_QUERY_ATTEMPTS:
            self._close_order(order, f"not settled after {_MAX_QUERY_ATTEMPTS} attempts")
        return succeeded

    def _query_provider(self, order: Row[Any]) -> None:
        gateway = self._orders.gateway(order.provider)
        provider_status = gateway.query(provider_order(order))
        if provider_status.state is OrderState.PAID and provider_status.payment:
            self._orders.settle(order.provider, provider_status.payment)
        elif provider_status.state is OrderState.UNPAID:
            if order.has_expired:
                gateway.close(provider_order(order))
                self._close_order(order, "expired unpaid")
        else:
            if provider_status.state is OrderState.REFUNDED:
                log.error(
                    "payment order %s: refunded by the provider before it was credited",
                    order.order_id,
                )
            self._close_order(order, f"{provider_status.state.value} at the provider")

    def _close_order(self, order: Row[Any], reason: str) -> None:
        def set_closed(connection: Connection) -> int:
            return connection.execute(_CLOSE_ORDER, order._asdict()).rowcount

        if self._database.run(set_closed):
            log.info("payment order %s: closed: %s", order.order_id, reason)
