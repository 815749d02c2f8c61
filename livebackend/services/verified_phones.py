"""Phone numbers that were verified for a registration in the last 15 minutes."""

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

_VERIFICATION_TTL = timedelta(minutes=15)
_IS_VALID_VERIFICATION = and_(
    models.VerificationCode.phone == bindparam("of_phone"),
    models.VerificationCode.purpose == "register",
    models.VerificationCode.state == "verified",
    models.VerificationCode.verified_at > func.now() - _VERIFICATION_TTL,
)
_SELECT_IS_VERIFIED = select(exists().where(_IS_VALID_VERIFICATION))
_MARK_VERIFICATION_USED = (
    update(models.VerificationCode).where(_IS_VALID_VERIFICATION).values(state="used")
)
_DELETE_CODES = delete(models.VerificationCode).where(
    models.VerificationCode.phone == bindparam("of_phone")
)


def is_verified(connection: Connection, phone: str) -> bool:
    """Return whether the phone has an unused verification of the last 15 minutes."""
    is_phone_verified: bool = connection.execute(
        _SELECT_IS_VERIFIED, {"of_phone": phone}
    ).scalar_one()
    return is_phone_verified


def use_verification(connection: Connection, phone: str) -> bool:
    """Mark the phone's valid verification as used; return False if there is none."""
    return connection.execute(_MARK_VERIFICATION_USED, {"of_phone": phone}).rowcount > 0


def delete_codes(connection: Connection, phone: str) -> None:
    """Delete all verification codes that were sent to a phone."""
    connection.execute(_DELETE_CODES, {"of_phone": phone})
