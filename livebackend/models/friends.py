"""Who is whose friend, and the requests that lead there."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    String,
    Table,
    TypedColumns,
    func,
    literal_column,
    text,
)

from livebackend.models.metadata import metadata


class _Friendships(TypedColumns):
    account_id = Column(BigInteger, ForeignKey("accounts.id"), primary_key=True)
    friend_id = Column(BigInteger, ForeignKey("accounts.id"), primary_key=True)
    created_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )


# A friendship is two rows, one for each side's list. Each refers to its twin, so neither can be
# there without the other: both are written, and both deleted, by one statement.
friendships = Table(
    "friendships",
    metadata,
    _Friendships,
    ForeignKeyConstraint(
        ["friend_id", "account_id"], ["friendships.account_id", "friendships.friend_id"]
    ),
    CheckConstraint("account_id <> friend_id", name="not_oneself"),
)


class _Blocks(TypedColumns):
    account_id = Column(BigInteger, ForeignKey("accounts.id"), primary_key=True)
    blocked_id = Column(BigInteger, ForeignKey("accounts.id"), primary_key=True)
    created_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )


# Whose requests an account is never shown.
blocks = Table(
    "blocks",
    metadata,
    _Blocks,
    CheckConstraint("account_id <> blocked_id", name="not_oneself"),
)
Index("ix_blocks_blocked_id", blocks.c.blocked_id)


class _FriendRequests(TypedColumns):
    id = Column(BigInteger, Identity(always=True), primary_key=True)
    applicant_id = Column(BigInteger, ForeignKey("accounts.id"), nullable=False)
    addressee_id = Column(BigInteger, ForeignKey("accounts.id"), nullable=False)
    state = Column(String(8), nullable=False, server_default="open")
    # When it was sent, in microseconds since 1970 UTC. Both messages' ids bear this number, so it
    # is unique; a tie is a lost race, and the operation runs again.
    sent_at_us = Column(
        BigInteger,
        nullable=False,
        unique=True,
        server_default=text("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"),
    )
    # Each side has a copy, its message; deleting the message leaves the request.
    applicant_keeps = Column(Boolean, nullable=False, server_default=text("true"))
    addressee_keeps = Column(Boolean, nullable=False, server_default=text("true"))


friend_requests = Table(
    "friend_requests",
    metadata,
    _FriendRequests,
    CheckConstraint("state IN ('open', 'accepted', 'declined')", name="state"),
    CheckConstraint("applicant_id <> addressee_id", name="not_oneself"),
)
_requests = friend_requests.c
# No parameter: an index for open requests only serves every plan then, one made beforehand, too.
request_is_open = _requests.state == literal_column("'open'")

Index(
    "uq_friend_requests_open",
    _requests.applicant_id,
    _requests.addressee_id,
    unique=True,
    postgresql_where=request_is_open,
)
Index(
    "ix_friend_requests_applicant",
    _requests.applicant_id,
    _requests.sent_at_us,
)
Index(
    "ix_friend_requests_addressee",
    _requests.addressee_id,
    _requests.sent_at_us,
)
