"""Login tokens that were revoked by a logout."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class RevokedToken(Base):
    """A login token that a logout revoked before it expired."""

    __tablename__ = "revoked_tokens"
    __table_args__ = (Index("ix_revoked_tokens_expires_at", "expires_at"),)

    token_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    # The row can be deleted after the token expires.
    expires_at: Mapped[datetime]
