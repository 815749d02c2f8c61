"""Data types of a transfer: accounts, request id, status and outcome."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum
from functools import cached_property
from typing import NamedTuple, Protocol

_REQUEST_NAMESPACE = uuid.UUID("b6a0c9a2-6a51-4f0e-9c0e-8a1d5f1f7f11")


class TransferKind(IntEnum):
    GIFT = 1
    REFILL = 2
    REVERSAL = 9


class CoinAccount(NamedTuple):
    """A coin account of a user or, if `external`, of a provider.

    An external account has no balance shards and no balance limit.
    """

    id: int
    external: bool = False


@dataclass(frozen=True)
class Gift:
    """The details of a gift; `room_id` is None if the host is not live."""

    host_id: int
    room_id: int | None
    description: str


class Payment(NamedTuple):
    """A provider's payment for an order; `payment_id` is the provider's id."""

    provider: str
    order_id: str
    payment_id: str
    paid_at: datetime | None = None


@dataclass(frozen=True)
class Transfer:
    """Coins to move from one account to another, once per actor and request id.

    The actor is a user's coin account. It must be the debited account, unless the debited account
    is external.
    """

    kind: TransferKind
    actor_id: int
    debit: CoinAccount
    credit: CoinAccount
    amount: int
    request_id: uuid.UUID
    gift: Gift | None = None
    reverses_id: int | None = None
    # The payment for a refill; the ledger marks its payment order as paid.
    payment: Payment | None = None

    def __post_init__(self) -> None:
        if not (self.debit.external or self.debit.id == self.actor_id):
            raise ValueError(
                "debit must be external or the account of the actor"
                f" {self.actor_id}, not {self.debit.id}"
            )
        if self.debit.id == self.credit.id:
            raise ValueError(f"debit and credit are the same account {self.debit.id}")
        if self.amount <= 0:
            raise ValueError(f"amount must be positive, not {self.amount}")

    @cached_property
    def key(self) -> tuple[int, uuid.UUID]:
        return self.actor_id, self.request_id

    @property
    def compared_fields(self) -> tuple[object, ...]:
        """The fields that a retry with the same request id must not change."""
        description = self.gift.description if self.gift else None
        account_ids = self.debit.id, self.credit.id
        return self.kind, *account_ids, self.amount, description, self.reverses_id


class TransferStatus(Enum):
    DONE = "done"
    # A retry: an earlier transfer has the same request id and content; the retry moved no coins.
    REPLAYED = "replayed"
    # An earlier transfer has the same request id but other content; no coins moved.
    CONFLICT = "conflict"
    # Insufficient balance; no coins moved, and the request id can be used again.
    INSUFFICIENT_COINS = "insufficient coins"
    # The credited balance shard would exceed its limit; no coins moved, and the request id can be
    # used again.
    BALANCE_LIMIT = "balance limit"


class TransferOutcome(NamedTuple):
    status: TransferStatus
    transfer_id: int | None = None


class TransferSubmitter(Protocol):
    """Submits transfers to the ledger and waits for their commit."""

    def submit(self, transfer: Transfer, *, deadline: float) -> TransferOutcome: ...


def derive_request_id(source: str, actor_id: int, retry_key: str) -> uuid.UUID:
    """Return the ledger's request id, derived from the three arguments.

    `source` is the namespace of `retry_key`: equal keys of a client and of a payment provider give
    different request ids.
    """
    return uuid.uuid5(_REQUEST_NAMESPACE, f"{source}:{actor_id}:{retry_key}")


def client_request_id(actor_id: int, request_id: str) -> uuid.UUID:
    """Return the ledger's request id for the `requestId` that a client sent."""
    return derive_request_id("client", actor_id, request_id)


def new_request_id() -> str:
    """Return a random `requestId`, for a request that the client sent without one.

    If the outcome is unknown, the client gets this id, so that its retry cannot move coins twice.
    """
    return uuid.uuid4().hex
