"""Who uses the app: one row per registered phone."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
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
    # NULL once the account was removed: whoever has the phone then may register anew. Whoever looks
    # for the living finds a phone; hence the type.
    phone: Column[str] = Column(String(11), unique=True, nullable=True)
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
    # An operator's doing: its tokens are worth nothing, and it cannot log in.
    disabled_at: Column[datetime | None] = Column(DateTime(timezone=True))
    removed_at: Column[datetime | None] = Column(DateTime(timezone=True))


accounts = Table(
    "accounts",
    metadata,
    _Accounts,
    CheckConstraint("phone ~ '^[0-9]{11}$'", name="phone"),
    CheckConstraint("gender IN ('0', '1')", name="gender"),
    CheckConstraint("nickname <> ''", name="nickname"),
    CheckConstraint("(phone IS NULL) = (removed_at IS NOT NULL)", name="removed"),
    CheckConstraint(
        "removed_at IS NULL OR (nickname IS NULL AND gender IS NULL AND head_image IS NULL)",
        name="nameless",
    ),
)


class _LoggedOut(TypedColumns):
    token_id = Column(String(32), primary_key=True)
    # When the token would have expired by itself; after that nobody need remember it.
    expires_at: Column[datetime] = Column(DateTime(timezone=True), nullable=False)


# Login tokens that were ended one by one.
logged_out = Table("logged_out", metadata, _LoggedOut)
Index("ix_logged_out_expires_at", logged_out.c.expires_at)
