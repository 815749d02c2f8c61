"""Checking of verification codes: how attempts are matched and counted."""

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

WRONG_TRIES_MAX = 5
_NAMED = (
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
_COUNT_TRY = (
    update(models.VerificationCode)
    .where(models.VerificationCode.id == bindparam("code_id"))
    .values(attempts=models.VerificationCode.attempts + 1)
)
_RIGHT = (
    update(models.VerificationCode)
    .where(
        models.VerificationCode.id.in_(bindparam("ids", expanding=True)),
        models.VerificationCode.state == "sent",
    )
    .values(state=bindparam("reached"), verified_at=func.now())
)


class Purpose(StrEnum):
    """What a code is good for, and the state that a right one reaches."""

    REGISTER = "register"
    RESET = "reset"

    @property
    def reached(self) -> str:
        # Of a registration the account is still to come; a reset follows in one transaction.
        return "verified" if self is Purpose.REGISTER else "used"

    @property
    def digits(self) -> int:
        # The document says four. Whoever guesses a code to reset with has an account that is in
        # use, so that one is our own length.
        return 4 if self is Purpose.REGISTER else 6

    def is_code(self, text: str) -> bool:
        """Whether a text has the form of such a code."""
        return len(text) == self.digits and text.isascii() and text.isdecimal()


def settle_right(connection: Connection, ids: Sequence[uuid.UUID], purpose: Purpose) -> None:
    """Notes that these codes were typed rightly."""
    connection.execute(_RIGHT, {"ids": ids, "reached": purpose.reached})


class Digests:
    """Digests of codes, each under its row's id. The first key makes them; all are compared."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def make(self, code_id: uuid.UUID, code: str) -> bytes:
        return _digest(self._keys[0], code_id, code)

    def match(self, digest: bytes, code_id: uuid.UUID, code: str) -> bool:
        """Whether the digest is that code's."""
        return any(hmac.compare_digest(digest, _digest(key, code_id, code)) for key in self._keys)


def _digest(key: bytes, code_id: uuid.UUID, code: str) -> bytes:
    return hmac.digest(key, code_id.bytes + code.encode(), "sha256")


class Judge(Protocol):
    """What stands in the reply to a sent code, and how a try that hands it back is judged."""

    def reply(self, code_id: uuid.UUID, code: str) -> str:
        """Return the ticket: what the client must send back with the code."""

    def verify(
        self,
        connection: Connection,
        *,
        ticket: str,
        code: str,
        purpose: Purpose,
        phone: str | None = None,
    ) -> None:
        """Check an attempt, at a code for that phone if one is given.

        Raises WrongCode and TooManyAttempts, which keep what the transaction wrote: the attempt
        stays counted.
        """


class TicketJudge:
    """The reply is an opaque ticket: a signed name of the code's row. It says nothing of the code.

    A code is right once, and may be tried five times.
    """

    def __init__(self, secrets: Sequence[str], digests: Digests) -> None:
        self._signer = Signer(secrets, kind="code")
        self._digests = digests

    def reply(self, code_id: uuid.UUID, code: str) -> str:
        return self._signer.sign(code_id.hex)

    def verify(
        self,
        connection: Connection,
        *,
        ticket: str,
        code: str,
        purpose: Purpose,
        phone: str | None = None,
    ) -> None:
        named = self._signer.read(ticket)
        if named is None:
            raise WrongCode
        code_id = uuid.UUID(hex=named)
        # Locked: of any number of tries at once, five are compared.
        row: Any = connection.execute(
            _NAMED, {"code_id": code_id, "for_purpose": purpose}
        ).one_or_none()
        if row is None or (phone is not None and row.phone != phone):
            raise WrongCode
        if row.attempts >= WRONG_TRIES_MAX:
            raise TooManyAttempts
        if row.state != "sent" or row.expired:
            raise WrongCode
        if purpose.is_code(code) and self._digests.match(row.digest, code_id, code):
            settle_right(connection, [code_id], purpose)
            return
        connection.execute(_COUNT_TRY, {"code_id": code_id})
        last = row.attempts + 1 == WRONG_TRIES_MAX
        raise TooManyAttempts if last else WrongCode
