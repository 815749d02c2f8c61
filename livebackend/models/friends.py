"""Friendships, friend requests and blocks."""

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    String,
    func,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class Friendship(Base):
    """One direction of a friendship: `account_id` has `friend_id` as a friend.

    A friendship is two rows. Each row has a foreign key to the other row, so one statement must
    insert or delete both rows.
    """

    __tablename__ = "friendships"
    __table_args__ = (
        ForeignKeyConstraint(
            ["friend_id", "account_id"], ["friendships.account_id", "friendships.friend_id"]
        ),
        CheckConstraint("account_id <> friend_id", name="distinct_accounts"),
    )

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    friend_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    # The primary key is explicit, because SQLAlchemy's mapper omits key columns whose foreign keys
    # refer to each other.
    __mapper_args__ = {"primary_key": (account_id, friend_id)}  # noqa: RUF012


class Block(Base):
    """A block: `account_id` does not see the friend requests of `blocked_id`."""

    __tablename__ = "blocks"
    __table_args__ = (
        CheckConstraint("account_id <> blocked_id", name="distinct_accounts"),
        Index("ix_blocks_blocked_id", "blocked_id"),
    )

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    blocked_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class FriendRequest(Base):
    """A friend request, which both accounts see as a message."""

    __tablename__ = "friend_requests"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'accepted', 'declined')", name="state"),
        CheckConstraint("applicant_id <> addressee_id", name="distinct_accounts"),
        Index(
            "uq_friend_requests_open",
            "applicant_id",
            "addressee_id",
            unique=True,
            postgresql_where=text("state = 'open'"),
        ),
        Index("ix_friend_requests_applicant", "applicant_id", "sent_at_us"),
        Index("ix_friend_requests_addressee", "addressee_id", "sent_at_us"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    applicant_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    addressee_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    state: Mapped[str] = mapped_column(String(8), server_default="open")
    # The time at which the friend request was sent, in microseconds since 1970 UTC. It is part of
    # the message ids, so it must be unique: if the time is already used, the server retries.
    sent_at_us: Mapped[int] = mapped_column(
        unique=True,
        server_default=text("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"),
    )
    # Whether the applicant and the addressee still see the request in their message lists.
    applicant_visible: Mapped[bool] = mapped_column(server_default=text("true"))
    addressee_visible: Mapped[bool] = mapped_column(server_default=text("true"))


# The state is a literal: with a parameter instead, generic plans cannot use the partial index.
request_is_open = FriendRequest.state == literal_column("'open'")
