"""How often things were done lately, for the limits on them."""

from datetime import datetime

from sqlalchemy import ARRAY, CheckConstraint, Column, DateTime, Index, String, Table, TypedColumns

from livebackend.models.metadata import metadata


class _Windows(TypedColumns):
    # A limit, and whom it is counted for.
    key = Column(String(200), primary_key=True)
    hits: Column[list[datetime]] = Column(ARRAY(DateTime(timezone=True)), nullable=False)
    expires_at: Column[datetime] = Column(DateTime(timezone=True), nullable=False)


# Unlogged: a crash forgets the counts, and they cost no write to the log of the database.
limit_windows = Table(
    "limit_windows",
    metadata,
    _Windows,
    CheckConstraint("cardinality(hits) >= 1", name="hits"),
    prefixes=["UNLOGGED"],
)
Index("ix_limit_windows_expires_at", limit_windows.c.expires_at)
