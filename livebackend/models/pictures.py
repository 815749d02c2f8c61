"""Uploaded pictures."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class Picture(Base):
    """An uploaded picture."""

    __tablename__ = "pictures"
    __table_args__ = (
        CheckConstraint("location <> ''", name="location"),
        Index("ix_pictures_account_id", "account_id"),
        Index("ix_pictures_unused", "created_at", postgresql_where=text("account_id IS NULL")),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    # What the response to the upload contains, and what the client sends as `headImage`.
    location: Mapped[str] = mapped_column(String(255), unique=True)
    # The account whose avatar it is. NULL: the picture is unused.
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
