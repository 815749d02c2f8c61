"""Tables and constraints, one noun per file. No queries, no JSON."""

from livebackend.models.accounts import accounts, logged_out
from livebackend.models.codes import code_tries, codes
from livebackend.models.friends import blocks, friend_requests, friendships, request_is_open
from livebackend.models.leases import leases
from livebackend.models.ledger import (
    SLOT_COINS_MAX,
    closings,
    coin_accounts,
    coin_slots,
    gifts,
    payment_orders,
    reversals,
    seals,
    transfers,
)
from livebackend.models.limits import limit_windows
from livebackend.models.metadata import metadata
from livebackend.models.pictures import pictures
from livebackend.models.rooms import room_is_open, rooms

__all__ = [
    "SLOT_COINS_MAX",
    "accounts",
    "blocks",
    "closings",
    "code_tries",
    "codes",
    "coin_accounts",
    "coin_slots",
    "friend_requests",
    "friendships",
    "gifts",
    "leases",
    "limit_windows",
    "logged_out",
    "metadata",
    "payment_orders",
    "pictures",
    "request_is_open",
    "reversals",
    "room_is_open",
    "rooms",
    "seals",
    "transfers",
]
