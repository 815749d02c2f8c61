"""Payment orders: purchases of coins that users pay for at a payment provider."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class PaymentOrder(Base):
    """An order for coins, which the user pays for at a payment provider."""

    __tablename__ = "payment_orders"
    __table_args__ = (
        # The request id is the first column of this constraint's index, because the ledger searches
        # by request id alone.
        UniqueConstraint("request_id", "account_id"),
        # A payment settles at most one order.
        UniqueConstraint("provider", "payment_id"),
        UniqueConstraint("order_id"),
        CheckConstraint("fen > 0 AND coins > 0", name="amounts"),
        CheckConstraint(
            "state IN ('pending', 'paid', 'closed', 'refunding', 'refunded')", name="state"
        ),
        CheckConstraint(
            "(state IN ('pending', 'closed')) = (transfer_id IS NULL)", name="transfer"
        ),
        CheckConstraint("(transfer_id IS NULL) = (payment_id IS NULL)", name="payment"),
        CheckConstraint(
            "(state IN ('refunding', 'refunded')) = (refund_reason IS NOT NULL)", name="refund"
        ),
        Index(
            "ix_payment_orders_next_query_at",
            "next_query_at",
            postgresql_where=text("state IN ('pending', 'refunding')"),
        ),
        # Index of orders that can be deleted.
        Index(
            "ix_payment_orders_unpaid",
            "created_at",
            postgresql_where=text("state IN ('pending', 'closed')"),
        ),
        Index("ix_payment_orders_created_at", "created_at"),
        Index("ix_payment_orders_paid_at", "paid_at"),
    )

    provider: Mapped[str] = mapped_column(String(30), primary_key=True)
    order_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    # The ledger's request id, derived from the `requestId` of the refill request. A retry of the
    # request returns this order.
    request_id: Mapped[UUID]
    # The price, in fen: 100 fen are 1 yuan.
    fen: Mapped[int] = mapped_column(Integer)
    coins: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(9), server_default="pending")
    # The transfer that credited the coins.
    transfer_id: Mapped[int | None] = mapped_column(ForeignKey("transfers.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The payment provider's id of the payment.
    payment_id: Mapped[str | None] = mapped_column(String(64))
    paid_at: Mapped[datetime | None]
    refund_reason: Mapped[str | None] = mapped_column(String(200))
    # Number of queries to the provider about the order, and the time of the next query.
    query_attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_query_at: Mapped[datetime | None] = mapped_column(
        server_default=text("now() + interval '30 seconds'")
    )
