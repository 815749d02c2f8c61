"""Retention: deletes rows that are no longer needed, in small batches."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    Interval,
    bindparam,
    cast,
    delete,
    extract,
    func,
    select,
)

from livebackend import models
from livebackend.database.engine import Database

# A batch holds its row locks for milliseconds. One batch of each table in each round of
# housekeeping is enough to delete 20 million rows of each table a day.
_BATCH_SIZE = 1000


def _deletion(key: Any, *conditions: ColumnElement[bool], order_by: Any) -> Delete:
    old_rows = (
        select(key)
        .where(*conditions)
        .order_by(order_by)
        .limit(_BATCH_SIZE)
        .with_for_update(skip_locked=True)
    )
    # A subquery in ARRAY runs once. With IN, some plans run it repeatedly.
    return delete(key.class_).where(key == func.any(func.array(old_rows.scalar_subquery())))


_oldest_time = func.now() - bindparam("age", type_=Interval)
_DELETE_ROOMS = _deletion(
    models.Room.id,
    models.Room.state == "closed",
    models.Room.disabled_at.is_not(None),
    models.Room.closed_at < _oldest_time,
    order_by=models.Room.closed_at,
)
# An order in one of these states has credited no coins. A pending order whose next query is long
# overdue belongs to a provider that has no gateway.
_DELETE_UNPAID_ORDERS = _deletion(
    models.PaymentOrder.order_id,
    models.PaymentOrder.state.in_(["pending", "closed"]),
    models.PaymentOrder.created_at < _oldest_time,
    func.coalesce(models.PaymentOrder.next_query_at, models.PaymentOrder.created_at) < _oldest_time,
    order_by=models.PaymentOrder.created_at,
)
_DELETE_MESSAGES = _deletion(
    models.FriendRequest.id,
    models.FriendRequest.sent_at_us < cast(extract("epoch", _oldest_time) * 1_000_000, BigInteger),
    order_by=models.FriendRequest.sent_at_us,
)
_DELETE_CODES = _deletion(
    models.VerificationCode.id,
    models.VerificationCode.expires_at < _oldest_time,
    order_by=models.VerificationCode.expires_at,
)
# The rows below have no effect after a fixed time.
_DELETE_CODE_ATTEMPTS = _deletion(
    models.CodeAttempts.ticket_digest,
    models.CodeAttempts.last_attempted_at < func.now() - timedelta(seconds=300),
    order_by=models.CodeAttempts.last_attempted_at,
)
_DELETE_REVOKED_TOKENS = _deletion(
    models.RevokedToken.token_id,
    models.RevokedToken.expires_at < func.now(),
    order_by=models.RevokedToken.expires_at,
)
# The relay drops live events much earlier, but it does not run without `events.gateway`.
_DELETE_EVENTS = _deletion(
    models.OutboxEvent.id,
    models.OutboxEvent.created_at < func.now() - timedelta(days=8),
    order_by=models.OutboxEvent.id,
)
_DELETE_EVENT_BATCHES = _deletion(
    models.EventBatch.id,
    models.EventBatch.created_at < func.now() - timedelta(days=8),
    order_by=models.EventBatch.id,
)


class Retention:
    """Deletes old rows. Ledger rows and paid orders are kept forever.

    `rooms` is the time since a room was closed, `unpaid_orders` since an order was opened,
    `messages` since a friend request was sent, and `codes` since a verification code expired. A
    time of zero keeps the rows forever.
    """

    def __init__(
        self,
        database: Database,
        *,
        rooms: timedelta,
        unpaid_orders: timedelta,
        messages: timedelta,
        codes: timedelta,
    ) -> None:
        self._database = database
        deletions_by_age = [
            (_DELETE_ROOMS, rooms),
            (_DELETE_UNPAID_ORDERS, unpaid_orders),
            (_DELETE_MESSAGES, messages),
            (_DELETE_CODES, codes),
        ]
        self._deletions: list[tuple[Delete, Mapping[str, Any]]] = [
            *((statement, {"age": age}) for statement, age in deletions_by_age if age),
            (_DELETE_CODE_ATTEMPTS, {}),
            (_DELETE_REVOKED_TOKENS, {}),
            (_DELETE_EVENTS, {}),
            (_DELETE_EVENT_BATCHES, {}),
        ]

    def delete_old_rows(self) -> int:
        """Delete up to 1000 old rows of each table, each table in its own transaction."""
        return sum(self._delete(statement, values) for statement, values in self._deletions)

    def _delete(self, statement: Delete, values: Mapping[str, Any]) -> int:
        return self._database.run(lambda connection: connection.execute(statement, values).rowcount)
