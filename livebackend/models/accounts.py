"""Who uses the app: one row per registered phone."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Integer,
    String,
    Table,
    TypedColumns,
    func,
    text,
)

from livebackend.models.metadata import metadata


class _Accounts(TypedColumns):
    id = Column(BigInteger, Identity(always=True), primary_key=True)
    phone = Column(String(11), nullable=False, unique=True)
    password_hash = Column(String(60), nullable=False)
    # "0" female, "1" male, as the document has it.
    gender: Column[str | None] = Column(String(1))
    nickname: Column[str | None] = Column(String(32))
    # The path or URL of the picture, as the app handed it in.
    head_image: Column[str | None] = Column(String(255))
    # Raising it ends every login token that was given out before.
    token_version = Column(Integer, nullable=False, server_default=text("1"))
    created_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )


accounts = Table(
    "accounts",
    metadata,
    _Accounts,
    CheckConstraint("phone ~ '^[0-9]{11}$'", name="phone"),
    CheckConstraint("gender IN ('0', '1')", name="gender"),
    CheckConstraint("nickname <> ''", name="nickname"),
)
