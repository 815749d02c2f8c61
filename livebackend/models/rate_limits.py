"""Counters of the rate limits."""

from datetime import datetime

from sqlalchemy import ARRAY, CheckConstraint, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class RateLimitCounter(Base):
    """Times of recent requests that a rule of a rate limit counted for one subject."""

    __tablename__ = "rate_limit_counters"
    __table_args__ = (
        CheckConstraint("cardinality(times) = cardinality(counts)", name="counts"),
        Index("ix_rate_limit_counters_expires_at", "expires_at"),
    )

    # Name of the rate limit, seconds of the window, keyed digest of the account, address or phone.
    key: Mapped[str] = mapped_column(String(120), primary_key=True)
    times: Mapped[list[datetime]]
    # The number of requests at each of the times.
    counts: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    expires_at: Mapped[datetime]


class RateLimitWindow(Base):
    """The counters of release 0.2, which its workers use until they are upgraded."""

    __tablename__ = "rate_limit_windows"
    __table_args__ = (
        CheckConstraint("cardinality(hits) >= 1", name="hits"),
        Index("ix_rate_limit_windows_expires_at", "expires_at"),
        {"prefixes": ["UNLOGGED"]},
    )

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    hits: Mapped[list[datetime]]
    expires_at: Mapped[datetime]
