"""Uploaded pictures."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class Picture(Base):
    """An uploaded picture, which can become the avatar of an account."""

    __tablename__ = "pictures"
    __table_args__ = (
        CheckConstraint("location <> ''", name="location"),
        Index("ix_pictures_account_id", "account_id"),
        Index("ix_pictures_unused", "created_at", postgresql_where=text("account_id IS NULL")),
        CheckConstraint("deleted_at IS NULL OR account_id IS NULL", name="deleted"),
        Index("ix_pictures_deleted", "id", postgresql_where=text("deleted_at IS NOT NULL")),
        # Index of the random folder name in the location, by which clients request the picture.
        Index("ix_pictures_folder", text("split_part(location, '/', -2)")),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    # The path or URL that the upload response contains, and that clients send as `headImage`.
    location: Mapped[str] = mapped_column(String(255), unique=True)
    # The account whose avatar is this picture; NULL if the picture is unused.
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The time since which the picture is not served; the row stays until its file is deleted.
    deleted_at: Mapped[datetime | None]
