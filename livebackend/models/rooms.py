"""Live rooms and their streams."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    String,
    func,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class Room(Base):
    """A live broadcast of a host, from its start to its end.

    States: `opening` while the provider creates the stream; `open` while the host is live; then
    `closed`.
    """

    __tablename__ = "rooms"
    __table_args__ = (
        CheckConstraint("state IN ('opening', 'open', 'closed')", name="state"),
        CheckConstraint(
            "state <> 'open' OR (stream IS NOT NULL AND play_urls IS NOT NULL)", name="stream"
        ),
        CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="closed_at"),
        CheckConstraint("(closed_at IS NULL) = (close_reason IS NULL)", name="close_reason"),
        CheckConstraint("(publisher IS NULL) = (published_at IS NULL)", name="published_at"),
        # A host has one room at a time: of two concurrent requests to go live, the second INSERT
        # conflicts with this index.
        Index(
            "uq_rooms_not_closed",
            "account_id",
            unique=True,
            postgresql_where=text("state <> 'closed'"),
        ),
        # Index for the list of live rooms, newest first.
        Index("ix_rooms_open", "started_at", "id", postgresql_where=text("state = 'open'")),
        # Index of closed rooms whose stream must still be disabled.
        Index(
            "ix_rooms_to_disable",
            "disable_retry_at",
            postgresql_where=text("state = 'closed' AND disabled_at IS NULL"),
        ),
        # Index of closed rooms that can be deleted.
        Index(
            "ix_rooms_disabled",
            "closed_at",
            postgresql_where=text("state = 'closed' AND disabled_at IS NOT NULL"),
        ),
        Index("ix_rooms_account_id", "account_id"),
    )

    # The id is taken from the sequence before the INSERT, because the stream key depends on it.
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    title: Mapped[str | None] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(7), server_default="opening")
    stream_key: Mapped[str] = mapped_column(String(100), unique=True)
    publish_key: Mapped[str] = mapped_column(String(100))
    # The JSON of the stream, as in the response to going live. Only the host may see it, because it
    # contains the publish key.
    stream: Mapped[str | None] = mapped_column(String(8000))
    # The URLs for viewers: `rtmp`, `hls` and `hdl`.
    play_urls: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The time at which the server last found a publisher online; at first, the time at which the
    # stream was created.
    stream_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The time since which the provider reports no publisher; NULL if a publisher is online.
    offline_since: Mapped[datetime | None]
    # The time of the last query to the provider about this room alone, not in a batch.
    provider_checked_at: Mapped[datetime | None]
    # The media server's id of the publisher, and the time when it began to publish.
    publisher: Mapped[str | None] = mapped_column(String(64))
    published_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    # Why the room was closed: `left`, `failed`, `abandoned`, `offline` or `operator`.
    close_reason: Mapped[str | None] = mapped_column(String(20))
    # The time at which the provider confirmed that the stream is disabled.
    disabled_at: Mapped[datetime | None]
    # Number of failed attempts to disable the stream, and the time of the next attempt.
    disable_attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    disable_retry_at: Mapped[datetime] = mapped_column(server_default=func.now())


# The state is a literal: with a parameter instead, generic plans cannot use the partial index.
room_is_open = Room.state == literal_column("'open'")
