"""Pictures that were uploaded, and who uses which as an avatar."""

from datetime import datetime

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

from livebackend.models.metadata import metadata


class _Pictures(TypedColumns):
    id = Column(BigInteger, Identity(always=True), primary_key=True)
    # What the upload's reply said, which the app hands back as `headImage`.
    location = Column(String(255), nullable=False, unique=True)
    # Whose avatar it is; nobody's until a registration names it.
    account_id: Column[int | None] = Column(BigInteger, ForeignKey("accounts.id"))
    created_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )


pictures = Table(
    "pictures", metadata, _Pictures, CheckConstraint("location <> ''", name="location")
)
Index("ix_pictures_account_id", pictures.c.account_id)
Index(
    "ix_pictures_unclaimed", pictures.c.created_at, postgresql_where=pictures.c.account_id.is_(None)
)
