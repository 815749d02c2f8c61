"""Live rooms: one row for each time somebody went live."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    String,
    Table,
    TypedColumns,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

from livebackend.models.metadata import metadata


class _Rooms(TypedColumns):
    # Drawn before the row is written: the stream's key is made from it.
    id = Column(BigInteger, Identity(), primary_key=True)
    account_id = Column(BigInteger, ForeignKey("accounts.id"), nullable=False)
    title: Column[str | None] = Column(String(100))
    # opening: claimed, and the stream is being made; open: live; closed: over.
    state = Column(String(7), nullable=False, server_default="opening")
    stream_key = Column(String(100), nullable=False, unique=True)
    publish_key = Column(String(100), nullable=False)
    # The provider's JSON, to the letter as it is replied. For the broadcaster alone: it bears the
    # publish key.
    stream: Column[str | None] = Column(String(8000))
    # Where friends watch: {"rtmp", "hls", "hdl"}.
    play_urls: Column[dict[str, Any] | None] = Column(JSONB(none_as_null=True))
    started_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )
    closed_at: Column[datetime | None] = Column(DateTime(timezone=True))
    close_reason: Column[str | None] = Column(String(20))
    # When the provider confirmed that the stream takes no publisher any more.
    disabled_at: Column[datetime | None] = Column(DateTime(timezone=True))


rooms = Table(
    "rooms",
    metadata,
    _Rooms,
    CheckConstraint("state IN ('opening', 'open', 'closed')", name="state"),
    CheckConstraint(
        "state <> 'open' OR (stream IS NOT NULL AND play_urls IS NOT NULL)", name="stream"
    ),
    CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="closed_at"),
    CheckConstraint("(closed_at IS NULL) = (close_reason IS NULL)", name="close_reason"),
)
# One room a user: this index is the claim that twenty callers compete for.
Index(
    "uq_rooms_not_closed",
    rooms.c.account_id,
    unique=True,
    postgresql_where=rooms.c.state != "closed",
)
