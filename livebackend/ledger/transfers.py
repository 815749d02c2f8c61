"""A transfer of coins: its sides, its request id, its outcome."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum
from typing import NamedTuple, Protocol

_REQUESTS = uuid.UUID("b6a0c9a2-6a51-4f0e-9c0e-8a1d5f1f7f11")


class Kind(IntEnum):
    GIFT = 1
    REFILL = 2
    REVERSAL = 9


class CoinAccount(NamedTuple):
    """One side of a transfer. An external account has no slots and no limit."""

    id: int
    external: bool = False


@dataclass(frozen=True)
class Gift:
    """What is remembered of a gift beside its coins."""

    host_id: int
    room_id: int | None
    description: str


class Payment(NamedTuple):
    """A payment that a provider received for an order; `payment_id` is the provider's own."""

    provider: str
    order_id: str
    payment_id: str
    paid_at: datetime | None = None


@dataclass(frozen=True)
class Transfer:
    """Coins to be moved once, however often it is posted: `request_id` is the actor's own.

    The actor is a user's account; it is the debited one, unless that is external.
    """

    kind: Kind
    actor: int
    debit: CoinAccount
    credit: CoinAccount
    amount: int
    request_id: uuid.UUID
    gift: Gift | None = None
    reverses: int | None = None
    # whose order this refill settles
    payment: Payment | None = None

    def __post_init__(self) -> None:
        if not (self.debit.external or self.debit.id == self.actor):
            raise ValueError("an actor spends his own coins only")
        if self.debit.id == self.credit.id or self.amount <= 0:
            raise ValueError("a transfer moves coins from one account to another")

    @property
    def key(self) -> tuple[int, uuid.UUID]:
        return self.actor, self.request_id

    @property
    def content(self) -> tuple[object, ...]:
        """What must be the same for a repetition to be one."""
        description = self.gift.description if self.gift else None
        sides = self.debit.id, self.credit.id
        return self.kind, *sides, self.amount, description, self.reverses


class Status(Enum):
    DONE = "done"
    # The same request was done before; nothing moved now.
    REPLAYED = "replayed"
    # The request's id was used for another content; nothing moved.
    CONFLICT = "conflict"
    # The debited account has too few coins; nothing moved, and the id is still free.
    NO_COINS = "no coins"
    # The credited slot would hold too many coins; nothing moved, and the id is still free.
    BALANCE_LIMIT = "balance limit"


class Outcome(NamedTuple):
    status: Status
    transfer_id: int | None = None


class Writer(Protocol):
    """Whoever hands transfers to the ledger, and waits until they are committed."""

    def submit(self, transfer: Transfer, *, deadline: float) -> Outcome: ...


def request_key(source: str, actor: int, string: str) -> uuid.UUID:
    """The id of an actor's request, from the string that its source calls it by.

    Strings of different sources (a client, a payment provider) never meet.
    """
    return uuid.uuid5(_REQUESTS, f"{source}:{actor}:{string}")


def client_key(actor: int, request_id: str) -> uuid.UUID:
    """The id of a request that an actor's app calls `request_id`."""
    return request_key("client", actor, request_id)


def new_request_id() -> str:
    """Return an id for a request without one, so that a retry never moves coins twice."""
    return uuid.uuid4().hex
