"""The coin ledger: accounts, balances, transfers and checkpoints.

A transfer is one row with a debited and a credited account, so the sum of all balances is constant.
Triggers reject updates and deletes of rows of `transfers`, `gifts`, `reversal_requests`,
`ledger_checkpoints` and `checkpoint_balances`. A wrong transfer is reversed by another transfer.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base

# An account's balance is split into shards: one that is debited, and this number of shards that
# are credited. Each ledger writer credits one of these. The tables call a shard a slot.
CREDIT_SLOTS = 16
# The largest amount of a shard: with this limit, the sum of an account's shards fits into a bigint.
MAX_SLOT_COINS = (2**63 - 1) // (1 + CREDIT_SLOTS)


class CoinAccount(Base):
    """The coin account of a user or of a payment provider.

    A user's account has slots. A provider's account has no slots and no balance limit; refills
    debit it.
    """

    __tablename__ = "coin_accounts"
    __table_args__ = (
        CheckConstraint("(owner_id IS NULL) <> (provider IS NULL)", name="owner_or_provider"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), unique=True)
    provider: Mapped[str | None] = mapped_column(String(30), unique=True)


class CoinSlot(Base):
    """A balance shard: a part of a user's balance.

    The balance is the sum of the account's slots. Slots are in a separate table, because foreign
    key checks lock the rows of `coin_accounts`, and updates of balances would wait for these locks.
    """

    __tablename__ = "coin_slots"
    __table_args__ = (
        CheckConstraint(f"slot BETWEEN 0 AND {CREDIT_SLOTS}", name="slot"),
        CheckConstraint(f"amount BETWEEN 0 AND {MAX_SLOT_COINS}", name="amount"),
        # Free space in each page lets PostgreSQL update rows without writing the indexes (HOT).
        {"postgresql_with": {"fillfactor": 70}},
    )

    coin_account_id: Mapped[int] = mapped_column(ForeignKey("coin_accounts.id"), primary_key=True)
    # Debits use slot 0. Each ledger writer credits one other slot: gifts to one host wait for each
    # other only if their writers credit the same slot.
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    amount: Mapped[int] = mapped_column(server_default=text("0"))


class Transfer(Base):
    """A transfer of coins from one coin account to another."""

    __tablename__ = "transfers"
    __table_args__ = (
        UniqueConstraint("actor_id", "request_id"),
        CheckConstraint("kind IN (1, 2, 9)", name="kind"),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("debit_id <> credit_id", name="distinct_accounts"),
        CheckConstraint("(kind = 9) = (reverses_id IS NOT NULL)", name="reverses"),
        Index("ix_transfers_debit_id_id", "debit_id", "id"),
        Index("ix_transfers_credit_id_id", "credit_id", "id"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    # Transfers of kind 1 are gifts, 2 refills, 9 reversals.
    kind: Mapped[int] = mapped_column(SmallInteger)
    debit_id: Mapped[int] = mapped_column(ForeignKey("coin_accounts.id"))
    credit_id: Mapped[int] = mapped_column(ForeignKey("coin_accounts.id"))
    amount: Mapped[int]
    # The coin account whose user made the request. The ledger locks this account before it looks up
    # the request id, so that a request cannot move coins twice.
    actor_id: Mapped[int] = mapped_column(ForeignKey("coin_accounts.id"))
    request_id: Mapped[UUID]
    reverses_id: Mapped[int | None] = mapped_column(ForeignKey("transfers.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Gift(Base):
    """The host, the room and the description of a gift, which is a transfer of kind 1."""

    __tablename__ = "gifts"

    transfer_id: Mapped[int] = mapped_column(ForeignKey("transfers.id"), primary_key=True)
    # These columns have no foreign keys, because foreign key checks would lock the rows of the host
    # and the room. Other transactions that lock these rows would then wait for the ledger.
    host_id: Mapped[int]
    room_id: Mapped[int | None]
    description: Mapped[str] = mapped_column(String(200))


class ReversalRequest(Base):
    """An operator's request to reverse a transfer.

    The request is open until the reversal is posted, which needs a sufficient balance.
    """

    __tablename__ = "reversal_requests"

    transfer_id: Mapped[int] = mapped_column(ForeignKey("transfers.id"), primary_key=True)
    reason: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LedgerCheckpoint(Base):
    """The number, sum and hash of the transfers since the previous checkpoint.

    The hash includes the hash of the previous checkpoint.
    """

    __tablename__ = "ledger_checkpoints"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    # The id of the last transfer that the checkpoint covers.
    through_id: Mapped[int] = mapped_column(ForeignKey("transfers.id"), unique=True)
    transfers: Mapped[int]
    amount_sum: Mapped[int]
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    previous_sha256: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CheckpointBalance(Base):
    """The change of an account's balance by the transfers of a checkpoint.

    An audit adds up these changes, so that it needs to read only the transfers after the last
    checkpoint.
    """

    __tablename__ = "checkpoint_balances"

    checkpoint_id: Mapped[int] = mapped_column(
        ForeignKey("ledger_checkpoints.id"), primary_key=True
    )
    coin_account_id: Mapped[int] = mapped_column(ForeignKey("coin_accounts.id"), primary_key=True)
    delta: Mapped[int]
