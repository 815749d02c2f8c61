"""Payment orders: queries for operators."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

_ORDERS_AND_PHONES = """
    payment_orders.provider, order_id, phone, fen, coins, state, payment_orders.created_at,
    paid_at, payment_id, transfer_id, refund_reason, query_attempts, next_query_at
    FROM payment_orders JOIN accounts ON accounts.id = account_id
"""
_LIST_ORDERS = text(
    f"""
    SELECT {_ORDERS_AND_PHONES}
    WHERE (CAST(:state AS text) IS NULL OR state = :state)
        AND (CAST(:phone AS text) IS NULL OR phone = :phone)
    ORDER BY payment_orders.created_at DESC LIMIT :limit
    """
)
_FIND_ORDER = text(f"SELECT {_ORDERS_AND_PHONES} WHERE order_id = :order_id")

_COUNT_ORDERS_WITHOUT_GATEWAY = text(
    """
    SELECT provider, count(*) AS orders FROM payment_orders
    WHERE state IN ('pending', 'refunding') AND provider <> ALL(:providers)
    GROUP BY provider ORDER BY provider
    """
)


class StoredOrder(NamedTuple):
    """A payment order; `phone` is None if the user has removed their account."""

    provider: str
    order_id: str
    phone: str | None
    fen: int
    coins: int
    state: str
    created_at: datetime
    paid_at: datetime | None
    payment_id: str | None
    transfer_id: int | None
    refund_reason: str | None
    query_attempts: int
    next_query_at: datetime | None


def list_orders(
    connection: Connection, *, state: str | None, phone: str | None, limit: int
) -> list[StoredOrder]:
    """Return up to `limit` orders, newest first.

    `state` and `phone` restrict the orders, unless they are None.
    """
    values = {"state": state, "phone": phone, "limit": limit}
    return [StoredOrder(*row) for row in connection.execute(_LIST_ORDERS, values)]


def find_order(connection: Connection, order_id: str) -> StoredOrder | None:
    """Return the order with this id, or None."""
    row = connection.execute(_FIND_ORDER, {"order_id": order_id}).one_or_none()
    return StoredOrder(*row) if row else None


def count_orders_without_gateway(
    connection: Connection, providers: Sequence[str]
) -> dict[str, int]:
    """Return the number of open orders of each provider that is not in `providers`."""
    rows = connection.execute(_COUNT_ORDERS_WITHOUT_GATEWAY, {"providers": list(providers)})
    return {row.provider: row.orders for row in rows}
