"""Coins: accounts, the slots their coins lie in, and the transfers that moved them.

A transfer is one row with a debit and a credit side, so coins are neither made nor lost by it.
Triggers refuse to change or delete one; a correction is a transfer the other way.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    TypedColumns,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from livebackend.models.metadata import metadata

_SLOTS = 17
SLOT_COINS_MAX = (2**63 - 1) // _SLOTS


class _CoinAccounts(TypedColumns):
    id = Column(BigInteger, Identity(always=True), primary_key=True)
    # A user's account has an owner and slots; a payment provider's is where refilled coins come
    # from: it has a name, no slots, and no limit.
    owner_id: Column[int | None] = Column(BigInteger, ForeignKey("accounts.id"), unique=True)
    provider: Column[str | None] = Column(String(30), unique=True)


coin_accounts = Table(
    "coin_accounts",
    metadata,
    _CoinAccounts,
    CheckConstraint("(owner_id IS NULL) <> (provider IS NULL)", name="owner_or_provider"),
)


class _CoinSlots(TypedColumns):
    coin_account_id = Column(BigInteger, ForeignKey("coin_accounts.id"), primary_key=True)
    # 0 is what the owner spends from; credits land in 1 to 16, so that the writers of a famous
    # host's gifts need not wait for one another.
    slot = Column(SmallInteger, primary_key=True)
    amount = Column(BigInteger, nullable=False, server_default=text("0"))


# A balance is the sum of an account's slots. They stand apart from the account's row, because
# foreign keys lock that one. Pages are left room for updates in place.
coin_slots = Table(
    "coin_slots",
    metadata,
    _CoinSlots,
    CheckConstraint(f"slot BETWEEN 0 AND {_SLOTS - 1}", name="slot"),
    # 17 slots of this size add up to less than 2^63, so no balance overflows.
    CheckConstraint(f"amount BETWEEN 0 AND {SLOT_COINS_MAX}", name="amount"),
    postgresql_with={"fillfactor": 70},
)


class _Transfers(TypedColumns):
    id = Column(BigInteger, Identity(always=True), primary_key=True)
    # 1 gift, 2 refill, 9 reversal
    kind = Column(SmallInteger, nullable=False)
    debit_id = Column(BigInteger, ForeignKey("coin_accounts.id"), nullable=False)
    credit_id = Column(BigInteger, ForeignKey("coin_accounts.id"), nullable=False)
    amount = Column(BigInteger, nullable=False)
    # Under whose lock the request's id was judged: one id of one actor moves coins once.
    actor_id = Column(BigInteger, ForeignKey("coin_accounts.id"), nullable=False)
    request_id: Column[UUID] = Column(Uuid, nullable=False)
    reverses_id: Column[int | None] = Column(BigInteger, ForeignKey("transfers.id"), unique=True)
    created_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )


transfers = Table(
    "transfers",
    metadata,
    _Transfers,
    UniqueConstraint("actor_id", "request_id"),
    CheckConstraint("kind IN (1, 2, 9)", name="kind"),
    CheckConstraint("amount > 0", name="amount"),
    CheckConstraint("debit_id <> credit_id", name="two_sides"),
    CheckConstraint("(kind = 9) = (reverses_id IS NOT NULL)", name="reverses"),
)
Index("ix_transfers_debit_id_id", transfers.c.debit_id, transfers.c.id)
Index("ix_transfers_credit_id_id", transfers.c.credit_id, transfers.c.id)


class _Gifts(TypedColumns):
    transfer_id = Column(BigInteger, ForeignKey("transfers.id"), primary_key=True)
    # No foreign keys: checking one would lock the host's and the room's rows, and whoever holds
    # those must never wait for the ledger.
    host_id = Column(BigInteger, nullable=False)
    room_id: Column[int | None] = Column(BigInteger)
    description = Column(String(200), nullable=False)


gifts = Table("gifts", metadata, _Gifts)


class _PaymentOrders(TypedColumns):
    provider = Column(String(30), primary_key=True)
    order_id = Column(String(64), primary_key=True)
    account_id = Column(BigInteger, ForeignKey("accounts.id"), nullable=False)
    # A repeated request gets the same order.
    request_id: Column[UUID] = Column(Uuid, nullable=False)
    fen = Column(Integer, nullable=False)
    coins = Column(Integer, nullable=False)
    state = Column(String(9), nullable=False, server_default="pending")
    transfer_id: Column[int | None] = Column(BigInteger, ForeignKey("transfers.id"), unique=True)
    created_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )
    # The provider's own id of what was paid.
    payment_id: Column[str | None] = Column(String(64))
    paid_at: Column[datetime | None] = Column(DateTime(timezone=True))
    refund_reason: Column[str | None] = Column(String(200))
    # How often the provider was asked about the order, and when it is asked next.
    query_attempts = Column(Integer, nullable=False, server_default=text("0"))
    next_query_at: Column[datetime | None] = Column(
        DateTime(timezone=True), server_default=text("now() + interval '30 seconds'")
    )


payment_orders = Table(
    "payment_orders",
    metadata,
    _PaymentOrders,
    # In this order, so that the ledger finds an order by the request alone.
    UniqueConstraint("request_id", "account_id"),
    UniqueConstraint("provider", "payment_id"),
    UniqueConstraint("order_id"),
    CheckConstraint("fen > 0 AND coins > 0", name="amounts"),
    CheckConstraint(
        "state IN ('pending', 'paid', 'closed', 'refunding', 'refunded')", name="state"
    ),
    CheckConstraint("(state IN ('pending', 'closed')) = (transfer_id IS NULL)", name="transfer"),
    CheckConstraint("(transfer_id IS NULL) = (payment_id IS NULL)", name="payment"),
    CheckConstraint(
        "(state IN ('refunding', 'refunded')) = (refund_reason IS NOT NULL)", name="refund"
    ),
)
Index(
    "ix_payment_orders_next_query_at",
    payment_orders.c.next_query_at,
    postgresql_where=payment_orders.c.state.in_(["pending", "refunding"]),
)
Index("ix_payment_orders_created_at", payment_orders.c.created_at)
Index("ix_payment_orders_paid_at", payment_orders.c.paid_at)


class _Reversals(TypedColumns):
    transfer_id = Column(BigInteger, ForeignKey("transfers.id"), primary_key=True)
    reason = Column(String(200), nullable=False)
    created_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )


# Transfers that an operator wants reversed. It is open until a transfer reverses them: whoever has
# spent the coins keeps it so.
reversals = Table("reversals", metadata, _Reversals)


class _Seals(TypedColumns):
    id = Column(BigInteger, Identity(always=True), primary_key=True)
    through_id = Column(BigInteger, ForeignKey("transfers.id"), nullable=False, unique=True)
    transfers = Column(BigInteger, nullable=False)
    amount_sum = Column(BigInteger, nullable=False)
    sha256 = Column(LargeBinary(32), nullable=False)
    previous_sha256: Column[bytes | None] = Column(LargeBinary(32))
    created_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )


# A seal closes a stretch of transfers: their number, sum and hash, chained to the seal before.
seals = Table("seals", metadata, _Seals)


class _Closings(TypedColumns):
    seal_id = Column(BigInteger, ForeignKey("seals.id"), primary_key=True)
    coin_account_id = Column(BigInteger, ForeignKey("coin_accounts.id"), primary_key=True)
    delta = Column(BigInteger, nullable=False)


# What a sealed stretch did to each account, so that an audit adds up seals and not transfers.
closings = Table("closings", metadata, _Closings)
