"""SQLAlchemy models: columns, constraints and indexes, but no queries.

Statements select columns and return rows, not model objects:

    from livebackend import models

    select(models.Account.phone).where(models.Account.id == bindparam("id"))
"""

from livebackend.models.accounts import Account, account_has_user_id
from livebackend.models.base import Base
from livebackend.models.events import EventBatch, EventChannel, OutboxEvent
from livebackend.models.friends import Block, FriendRequest, Friendship, request_is_open
from livebackend.models.ledger import (
    CREDIT_SLOTS,
    MAX_SLOT_COINS,
    CheckpointBalance,
    CoinAccount,
    CoinSlot,
    Gift,
    LedgerCheckpoint,
    ReversalRequest,
    Transfer,
)
from livebackend.models.login_addresses import LoginAddresses
from livebackend.models.payment_orders import PaymentOrder
from livebackend.models.pictures import Picture
from livebackend.models.process_leases import ProcessLease
from livebackend.models.rate_limits import RateLimitCounter, RateLimitWindow
from livebackend.models.revoked_tokens import RevokedToken
from livebackend.models.rooms import Room, room_is_open
from livebackend.models.verification_codes import CodeAttempts, VerificationCode

__all__ = [
    "CREDIT_SLOTS",
    "MAX_SLOT_COINS",
    "Account",
    "Base",
    "Block",
    "CheckpointBalance",
    "CodeAttempts",
    "CoinAccount",
    "CoinSlot",
    "EventBatch",
    "EventChannel",
    "FriendRequest",
    "Friendship",
    "Gift",
    "LedgerCheckpoint",
    "LoginAddresses",
    "OutboxEvent",
    "PaymentOrder",
    "Picture",
    "ProcessLease",
    "RateLimitCounter",
    "RateLimitWindow",
    "ReversalRequest",
    "RevokedToken",
    "Room",
    "Transfer",
    "VerificationCode",
    "account_has_user_id",
    "request_is_open",
    "room_is_open",
]
