"""Verification codes that are sent by SMS, and wrong attempts to verify them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, LargeBinary, SmallInteger, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class VerificationCode(Base):
    """A code that is sent to a phone by SMS.

    States: `unsent`; `sent`, or `failed` if the gateway did not send it; `verified` after the
    client has sent the right registration code; `used` after the registration or password reset. A
    code for a password reset is `sent` from the beginning: it waits in a queue until it is sent.
    """

    __tablename__ = "verification_codes"
    __table_args__ = (
        CheckConstraint("phone ~ '^[0-9]{11}$'", name="phone"),
        CheckConstraint("state IN ('unsent', 'sent', 'failed', 'verified', 'used')", name="state"),
        CheckConstraint("purpose IN ('register', 'reset')", name="purpose"),
        CheckConstraint("attempts BETWEEN 0 AND 5", name="attempts"),
        CheckConstraint(
            "(state IN ('verified', 'used')) = (verified_at IS NOT NULL)", name="verified_at"
        ),
        Index("ix_verification_codes_sent", "expires_at", postgresql_where=text("state = 'sent'")),
        Index("ix_verification_codes_phone", "phone"),
        Index("ix_verification_codes_expires_at", "expires_at"),
        Index(
            "ix_verification_codes_verified", "phone", postgresql_where=text("state = 'verified'")
        ),
    )

    # A random id, which is also the salt of the digest: equal codes have different digests.
    id: Mapped[UUID] = mapped_column(primary_key=True)
    phone: Mapped[str] = mapped_column(String(11))
    # The purpose is `register`, or `reset` for a new password of the phone's account.
    purpose: Mapped[str] = mapped_column(String(8), server_default="register")
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    state: Mapped[str] = mapped_column(String(8), server_default="unsent")
    expires_at: Mapped[datetime]
    verified_at: Mapped[datetime | None]
    # Number of wrong attempts; it stays 0 unless `codes.reply = ticket` is set.
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Keyed digest of the client address that verified the code; NULL if release 0.2 verified it.
    verified_from: Mapped[bytes | None] = mapped_column(LargeBinary(32))


class CodeAttempts(Base):
    """Times of recent attempts with a wrong code for one ticket.

    The server uses this table only if `codes.reply = plain` is set.
    """

    __tablename__ = "code_attempts"
    __table_args__ = (
        CheckConstraint("cardinality(attempted_at) BETWEEN 1 AND 100", name="attempted_at"),
        Index("ix_code_attempts_last_attempted_at", "last_attempted_at"),
    )

    # The SHA-256 digest of the ticket is stored, because a client can send a ticket of any length.
    ticket_digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    attempted_at: Mapped[list[datetime]]
    last_attempted_at: Mapped[datetime]
