"""Verification of SMS codes, with a limit on wrong attempts."""

import hmac
import uuid
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import (
    Connection,
    bindparam,
    func,
    select,
    update,
)

from livebackend import models
from livebackend.core.errors import TooManyAttempts, WrongCode
from livebackend.core.signing import Signer

MAX_WRONG_ATTEMPTS = 5
_LOCK_CODE = (
    select(
        models.VerificationCode.phone,
        models.VerificationCode.digest,
        models.VerificationCode.state,
        models.VerificationCode.attempts,
        (models.VerificationCode.expires_at <= func.now()).label("expired"),
    )
    .where(
        models.VerificationCode.id == bindparam("code_id"),
        models.VerificationCode.purpose == bindparam("for_purpose"),
    )
    .with_for_update()
)
_COUNT_WRONG_ATTEMPT = (
    update(models.VerificationCode)
    .where(models.VerificationCode.id == bindparam("code_id"))
    .values(attempts=models.VerificationCode.attempts + 1)
)
_MARK_VERIFIED = (
    update(models.VerificationCode)
    .where(
        models.VerificationCode.id.in_(bindparam("ids", expanding=True)),
        models.VerificationCode.state == "sent",
    )
    .values(
        state=bindparam("new_state"),
        verified_at=func.now(),
        verified_from=bindparam("address_digest"),
    )
)


class Purpose(StrEnum):
    """The purpose of a verification code: registration or password reset."""

    REGISTER = "register"
    RESET = "reset"

    @property
    def state_after_verification(self) -> str:
        # A password reset uses the verification in the same request that verifies the code.
        # A registration uses the verification in a later request.
        return "verified" if self is Purpose.REGISTER else "used"

    @property
    def digits(self) -> int:
        # The API document specifies four digits for registration. Password resets are not in the
        # document: they use six digits, because a guessed code gives access to an account.
        return 4 if self is Purpose.REGISTER else 6

    def is_code(self, text: str) -> bool:
        """Return whether a text consists of as many digits as a code for this purpose."""
        return len(text) == self.digits and text.isascii() and text.isdecimal()


def mark_verified(
    connection: Connection,
    code_ids: Sequence[uuid.UUID],
    purpose: Purpose,
    *,
    address_digest: bytes | None,
) -> None:
    """Mark codes as verified, or as used if `purpose` is a password reset."""
    connection.execute(
        _MARK_VERIFIED,
        {
            "ids": code_ids,
            "new_state": purpose.state_after_verification,
            "address_digest": address_digest,
        },
    )


class CodeHasher:
    """Computes HMAC digests of codes, salted with their ids, and of client addresses.

    The first key creates new digests; `matches` tries all keys.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def hash(self, code_id: uuid.UUID, code: str) -> bytes:
        return _digest(self._keys[0], code_id, code)

    def matches(self, digest: bytes, code_id: uuid.UUID, code: str) -> bool:
        """Return whether `digest` is the digest of the code with one of the keys."""
        return any(hmac.compare_digest(digest, _digest(key, code_id, code)) for key in self._keys)

    def hash_address(self, address: str | None) -> bytes | None:
        """Return the digest of the address that verified a code; None without an address."""
        if address is None:
            return None
        return hmac.digest(self._keys[0], b"address " + address.encode(), "sha256")


def _digest(key: bytes, code_id: uuid.UUID, code: str) -> bytes:
    return hmac.digest(key, code_id.bytes + code.encode(), "sha256")


class CodeVerifier(Protocol):
    """Issues tickets for sent codes, and verifies the codes that clients send back."""

    def issue_ticket(self, code_id: uuid.UUID, code: str) -> str:
        """Return the ticket, which the client must send back with the code."""

    def check(
        self,
        connection: Connection,
        *,
        ticket: str,
        code: str,
        purpose: Purpose,
        phone: str | None = None,
    ) -> Sequence[uuid.UUID]:
        """Check a code without using it; return the ids of its rows.

        If `phone` is not None, the code must have been sent to this phone.
        Raises WrongCode and TooManyAttempts. Both errors commit the transaction, so that the wrong
        attempt is counted.
        """


class SignedTicketVerifier:
    """Verifies codes by signed tickets.

    A ticket contains the id of the code's row, not the code itself. A code can be verified once,
    and allows five wrong attempts.
    """

    def __init__(self, secrets: Sequence[str], hasher: CodeHasher) -> None:
        self._signer = Signer(secrets, kind="code")
        self._hasher = hasher

    def issue_ticket(self, code_id: uuid.UUID, code: str) -> str:
        return self._signer.sign(code_id.hex)

    def check(
        self,
        connection: Connection,
        *,
        ticket: str,
        code: str,
        purpose: Purpose,
        phone: str | None = None,
    ) -> Sequence[uuid.UUID]:
        id_hex = self._signer.read(ticket)
        if id_hex is None:
            raise WrongCode
        code_id = uuid.UUID(hex=id_hex)
        # The statement locks the row of the code, so that concurrent attempts cannot exceed the
        # limit.
        row: Any = connection.execute(
            _LOCK_CODE, {"code_id": code_id, "for_purpose": purpose}
        ).one_or_none()
        if row is None or (phone is not None and row.phone != phone):
            raise WrongCode
        if row.attempts >= MAX_WRONG_ATTEMPTS:
            raise TooManyAttempts
        if row.state in ("verified", "used") or row.expired:
            raise WrongCode
        is_right_code = purpose.is_code(code) and self._hasher.matches(row.digest, code_id, code)
        if is_right_code and row.state == "sent":
            return [code_id]
        # An attempt at a code that was not sent counts too. Otherwise a failed message would
        # reveal that the phone is registered, because unknown phones get no message.
        connection.execute(_COUNT_WRONG_ATTEMPT, {"code_id": code_id})
        is_last_attempt = row.attempts + 1 == MAX_WRONG_ATTEMPTS
        raise TooManyAttempts if is_last_attempt else WrongCode
