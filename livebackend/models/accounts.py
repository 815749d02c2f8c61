"""Accounts of users."""

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    String,
    and_,
    bindparam,
    func,
    or_,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class Account(Base):
    """The account of a user; the row stays after the user has removed the account."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("phone ~ '^[0-9]{11}$'", name="phone"),
        CheckConstraint("gender IN ('0', '1')", name="gender"),
        CheckConstraint("nickname <> ''", name="nickname"),
        CheckConstraint("public_id ~ '^u_[0-9a-f]{20}$'", name="public_id"),
        CheckConstraint("(phone IS NULL) = (removed_at IS NOT NULL)", name="removed"),
        CheckConstraint(
            "removed_at IS NULL OR (nickname IS NULL AND gender IS NULL AND head_image IS NULL)",
            name="removed_profile",
        ),
        CheckConstraint(
            "blocked_phone_digest IS NULL OR removed_at IS NOT NULL", name="blocked_phone_digest"
        ),
        Index(
            "ix_accounts_blocked_phone_digest",
            "blocked_phone_digest",
            postgresql_where=text("blocked_phone_digest IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    # The phone is NULL in a removed account, so that it can be registered again. The Python type is
    # str, because most statements select accounts that are not removed.
    phone: Mapped[str] = mapped_column(String(11), unique=True, nullable=True)
    # The hash of a removed account is empty: an empty hash matches no password.
    password_hash: Mapped[str] = mapped_column(String(60))
    # The API document defines the values: "0" is female, "1" is male.
    gender: Mapped[str | None] = mapped_column(String(1))
    nickname: Mapped[str | None] = mapped_column(String(32))
    # The path or URL of the avatar, as the client sent it.
    head_image: Mapped[str | None] = mapped_column(String(255))
    # A login token is valid only with the current version: an increment revokes all tokens.
    token_version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The time at which an operator disabled the account. A disabled account has no valid login
    # token, and login fails.
    disabled_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]
    # The id that strangers see instead of the phone, with 80 random bits. Of a UUID, only the first
    # and the last group are completely random. A removed account gets a new id, which finds no
    # account.
    public_id: Mapped[str] = mapped_column(
        String(22),
        unique=True,
        server_default=text(
            "'u_' || right(gen_random_uuid()::text, 12) || left(gen_random_uuid()::text, 8)"
        ),
    )
    # Keyed digest of the phone of a removed account that other users have blocked, so that the
    # blocks apply to a new account with the phone.
    blocked_phone_digest: Mapped[bytes | None] = mapped_column(LargeBinary)


# The account with the phone number or the public id `user_id`; a removed account has neither.
account_has_user_id = and_(
    or_(Account.phone == bindparam("user_id"), Account.public_id == bindparam("user_id")),
    Account.phone.is_not(None),
)
