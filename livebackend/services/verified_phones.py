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
from livebackend.core.errors import PhoneNotVerified
from livebackend.database.engine import Database
from livebackend.services.code_verifiers import CodeHasher
from livebackend.services.rate_limits import RateLimit, RateLimiter

_VERIFICATION_TTL = timedelta(minutes=15)
_is_recent_verification = and_(
    models.VerificationCode.phone == bindparam("of_phone"),
    models.VerificationCode.purpose == "register",
    models.VerificationCode.verified_at > func.now() - _VERIFICATION_TTL,
)
_is_valid_verification = and_(_is_recent_verification, models.VerificationCode.state == "verified")
_FIND_VERIFICATION = select(
    exists().where(_is_recent_verification).label("was_verified"),
    exists().where(_is_valid_verification).label("is_verified"),
    exists()
    .where(
        _is_valid_verification, models.VerificationCode.verified_from == bindparam("address_digest")
    )
    .label("is_verified_here"),
)
_MARK_VERIFICATION_USED = (
    update(models.VerificationCode).where(_is_valid_verification).values(state="used")
)
_DELETE_CODES = delete(models.VerificationCode).where(
    models.VerificationCode.phone == bindparam("of_phone")
)


class VerifiedPhones:
    """Decides which clients can register a verified phone.

    The API document ties a registration only to the phone, and the address of the app can change
    after the verification. So an attacker could register the phone as soon as its user has verified
    it. The client address that verified the phone can always register it. Another address can
    register it unless it tried before the verification, or several addresses did.
    """

    def __init__(self, database: Database, rate_limits: RateLimiter, hasher: CodeHasher) -> None:
        self._database = database
        self._rate_limits = rate_limits
        self._hasher = hasher

    def check(self, phone: str, *, address: str, is_registered: bool) -> None:
        """Raise PhoneNotVerified unless the client at `address` can register the phone.

        The error does not reveal whether another client has verified the phone, or whether the
        phone is registered. A retry of a registration passes the check: the first request has used
        the verification.
        """
        verification = self._database.execute_one(
            _FIND_VERIFICATION, of_phone=phone, address_digest=self._hasher.hash_address(address)
        )
        is_retry = is_registered and verification.was_verified
        if verification.is_verified_here or is_retry:
            return
        # Only a registration without a verification counts: the app sends none.
        is_counted = not verification.is_verified
        is_within_limits = self._rate_limits.try_consume(
            RateLimit("unverified_address", address, counted=is_counted),
            RateLimit("unverified_phone", phone, counted=is_counted),
            RateLimit("unverified_phone_address", f"{phone} {address}", counted=is_counted),
        )
        if not (verification.is_verified and is_within_limits):
            raise PhoneNotVerified


def use_verification(connection: Connection, phone: str) -> bool:
    """Mark the phone's valid verification as used; return False if there is none."""
    return connection.execute(_MARK_VERIFICATION_USED, {"of_phone": phone}).rowcount > 0


def delete_codes(connection: Connection, phone: str) -> None:
    """Delete all verification codes that were sent to a phone."""
    connection.execute(_DELETE_CODES, {"of_phone": phone})
