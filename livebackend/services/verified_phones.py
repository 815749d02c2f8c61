"""Phone numbers that were verified with a code in the last 15 minutes."""

from datetime import timedelta

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    func,
    select,
    update,
)

from livebackend import models

_VERIFIED_FOR = timedelta(minutes=15)
_VERIFIED = and_(
    models.VerificationCode.phone == bindparam("of_phone"),
    models.VerificationCode.purpose == "register",
    models.VerificationCode.state == "verified",
    models.VerificationCode.verified_at > func.now() - _VERIFIED_FOR,
)
_IS_VERIFIED = select(exists().where(_VERIFIED))
_USE = update(models.VerificationCode).where(_VERIFIED).values(state="used")
_FORGET_PHONE = delete(models.VerificationCode).where(
    models.VerificationCode.phone == bindparam("of_phone")
)


def is_verified(connection: Connection, phone: str) -> bool:
    """Whether the phone was verified in the last 15 minutes, and not used since."""
    verified: bool = connection.execute(_IS_VERIFIED, {"of_phone": phone}).scalar_one()
    return verified


def use_verification(connection: Connection, phone: str) -> bool:
    """Uses up a phone's verification; False if there is none."""
    return connection.execute(_USE, {"of_phone": phone}).rowcount > 0


def forget_phone(connection: Connection, phone: str) -> None:
    """Removes every code that was sent to a phone."""
    connection.execute(_FORGET_PHONE, {"of_phone": phone})
