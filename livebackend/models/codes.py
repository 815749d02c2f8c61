"""Codes sent to phones: each row is one code on its way from unsent to spent."""

from datetime import datetime

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    TypedColumns,
    Uuid,
    func,
    text,
)

from livebackend.models.metadata import metadata


class _Codes(TypedColumns):
    # Random, and the salt of the digest: equal codes never look alike.
    id = Column(Uuid, primary_key=True)
    phone = Column(String(11), nullable=False)
    # What it is good for: to register a phone, or to reset its account's password.
    purpose = Column(String(8), nullable=False, server_default="register")
    digest = Column(LargeBinary(32), nullable=False)
    # unsent → sent → verified → spent (used up by a registration); void when it could not be sent.
    state = Column(String(8), nullable=False, server_default="unsent")
    expires_at: Column[datetime] = Column(DateTime(timezone=True), nullable=False)
    verified_at: Column[datetime | None] = Column(DateTime(timezone=True))
    # Wrong ones, at a code that is named by a ticket.
    tries = Column(SmallInteger, nullable=False, server_default=text("0"))
    created_at: Column[datetime] = Column(
        DateTime(timezone=True), nullable=False, server_default=func.now()
    )


codes = Table(
    "codes",
    metadata,
    _Codes,
    CheckConstraint("phone ~ '^[0-9]{11}$'", name="phone"),
    CheckConstraint("state IN ('unsent', 'sent', 'void', 'verified', 'spent')", name="state"),
    CheckConstraint("purpose IN ('register', 'reset')", name="purpose"),
    CheckConstraint("tries BETWEEN 0 AND 5", name="tries"),
    CheckConstraint(
        "(state IN ('verified', 'spent')) = (verified_at IS NOT NULL)", name="verified_at"
    ),
)
Index("ix_codes_sent", codes.c.expires_at, postgresql_where=codes.c.state == "sent")
Index("ix_codes_phone", codes.c.phone)
Index("ix_codes_expires_at", codes.c.expires_at)
Index("ix_codes_verified", codes.c.phone, postgresql_where=codes.c.state == "verified")


class _CodeTries(TypedColumns):
    # What the caller handed in as the right code, digested: it may be anything.
    code_v_digest = Column(LargeBinary(32), primary_key=True)
    tried_at: Column[list[datetime]] = Column(ARRAY(DateTime(timezone=True)), nullable=False)
    last_tried_at: Column[datetime] = Column(DateTime(timezone=True), nullable=False)


# Wrong tries at a code that stands in the reply (`codes.reply = plain`): the newest few moments.
code_tries = Table(
    "code_tries",
    metadata,
    _CodeTries,
    CheckConstraint("cardinality(tried_at) BETWEEN 1 AND 100", name="tried_at"),
)
Index("ix_code_tries_last_tried_at", code_tries.c.last_tried_at)
