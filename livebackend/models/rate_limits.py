"""Moving windows of the rate limits."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class RateLimitWindow(Base):
    """Times of recent requests that one rate limit counted for one client or phone."""

    __tablename__ = "rate_limit_windows"
    __table_args__ = (
        CheckConstraint("cardinality(hits) >= 1", name="hits"),
        Index("ix_rate_limit_windows_expires_at", "expires_at"),
        # An unlogged table makes requests faster, because it writes no WAL. PostgreSQL empties the
        # table after a crash, which only resets the rate limits.
        {"prefixes": ["UNLOGGED"]},
    )

    # The name of the rate limit, and the account, address or phone whose requests it counts.
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    hits: Mapped[list[datetime]]
    expires_at: Mapped[datetime]
