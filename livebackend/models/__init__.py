"""Tables and constraints, one noun per file. No queries, no JSON."""

from livebackend.models.accounts import accounts
from livebackend.models.codes import code_tries, codes
from livebackend.models.friends import friend_requests, friendships
from livebackend.models.ledger import (
    closings,
    coin_accounts,
    coin_slots,
    gifts,
    payment_orders,
    seals,
    transfers,
)
from livebackend.models.metadata import metadata
from livebackend.models.pictures import pictures
from livebackend.models.rooms import rooms

__all__ = [
    "accounts",
    "closings",
    "code_tries",
    "codes",
    "coin_accounts",
    "coin_slots",
    "friend_requests",
    "friendships",
    "gifts",
    "metadata",
    "payment_orders",
    "pictures",
    "rooms",
    "seals",
    "transfers",
]
