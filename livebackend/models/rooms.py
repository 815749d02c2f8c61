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
    SmallInteger,
    String,
    Table,
    TypedColumns,
    func,
    literal_column,
    text,
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
    # When the stream was last known to be well: on air, or just made.
    seen_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )
    # Since when the provider, whenever it answered, has seen no publisher. None: it sees one.
    absent_since: Column[datetime | None] = Column(DateTime(timezone=True))
    # When the provider was last asked about this room alone.
    looked_at: Column[datetime | None] = Column(DateTime(timezone=True))
    # What the provider calls whoever publishes, and since when it does.
    publisher: Column[str | None] = Column(String(64))
    published_at: Column[datetime | None] = Column(DateTime(timezone=True))
    closed_at: Column[datetime | None] = Column(DateTime(timezone=True))
    # left, failed, abandoned or vanished.
    close_reason: Column[str | None] = Column(String(20))
    # When the provider confirmed that the stream takes no publisher any more.
    disabled_at: Column[datetime | None] = Column(DateTime(timezone=True))
    # How often it did not confirm that, and when to ask it again.
    disable_tries = Column(SmallInteger, nullable=False, server_default=text("0"))
    disable_after: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )


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
    CheckConstraint("(publisher IS NULL) = (published_at IS NULL)", name="published_at"),
)
# No parameter: an index for open rooms only serves every plan then, one made beforehand, too.
room_is_open = rooms.c.state == literal_column("'open'")

# One room a user: this index is the claim that twenty callers compete for.
Index(
    "uq_rooms_not_closed",
    rooms.c.account_id,
    unique=True,
    postgresql_where=rooms.c.state != "closed",
)
# All that are live, newest first.
Index(
    "ix_rooms_open",
    rooms.c.started_at,
    rooms.c.id,
    postgresql_where=room_is_open,
)
# Streams that are still to be disabled.
Index(
    "ix_rooms_to_disable",
    rooms.c.disable_after,
    postgresql_where=(rooms.c.state == "closed") & rooms.c.disabled_at.is_(None),
)
Index("ix_rooms_account_id", rooms.c.account_id)
