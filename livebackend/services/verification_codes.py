"""Codes by SMS: sending one, judging a try, and what a verified phone is worth."""

import hmac
import uuid
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from random import Random
from typing import Any, Protocol

from sqlalchemy import (
    Connection,
    Interval,
    and_,
    bindparam,
    delete,
    exists,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from livebackend import models
from livebackend.core.errors import MessageNotSent, PhoneTaken, TooManyAttempts, WrongCode
from livebackend.core.signing import Signer
from livebackend.database.engine import Database
from livebackend.gateways.sms.protocol import SmsFailed, SmsGateway
from livebackend.services.rate_limits import Limits

WRONG_TRIES_MAX = 5
_VERIFIED_FOR = timedelta(minutes=15)
# Who all share the limit on codes that the installation sends.
_EVERYBODY = "everybody"

_ACCOUNT = select(models.Account.id).where(
    models.Account.phone == bindparam("phone"), models.Account.disabled_at.is_(None)
)
_TAKEN = select(models.Account.id).where(models.Account.phone == bindparam("phone"))
_ADD = insert(models.VerificationCode).values(
    id=bindparam("id"),
    phone=bindparam("phone"),
    purpose=bindparam("purpose"),
    digest=bindparam("digest"),
    expires_at=func.now() + bindparam("ttl", type_=Interval),
)
# Some with each new one, so that the table stays as small as the traffic of a day.
_FORGET_OLD = text(
    """
    DELETE FROM verification_codes WHERE id IN (
        SELECT id FROM verification_codes WHERE expires_at < now() - interval '1 day'
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED)
    """
)
_SETTLE = (
    update(models.VerificationCode)
    .where(
        models.VerificationCode.id == bindparam("code_id"),
        models.VerificationCode.state == "unsent",
    )
    .values(state=bindparam("outcome"))
)
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
        """What the app hands back as `code_v`."""

    def verify(
        self,
        connection: Connection,
        *,
        code_v: str,
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
        code_v: str,
        code: str,
        purpose: Purpose,
        phone: str | None = None,
    ) -> None:
        named = self._signer.read(code_v)
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


class Codes:
    """Sends codes from `random`, good for `ttl`. `judge` says what a try is worth."""

    def __init__(
        self,
        database: Database,
        sms: SmsGateway,
        limits: Limits,
        judge: Judge,
        digests: Digests,
        *,
        random: Random,
        ttl: timedelta,
    ) -> None:
        self._database = database
        self._sms = sms
        self._limits = limits
        self._digests = digests
        self._random = random
        self._ttl = ttl
        self._judge = judge
        self.verify = judge.verify

    def send(self, phone: str) -> str:
        """Sends a code to register a phone with; returns what the app hands back with it.

        Raises PhoneTaken, RateLimited and MessageNotSent.
        """

        def check(connection: Connection) -> None:
            if connection.execute(_TAKEN, {"phone": phone}).first():
                raise PhoneTaken

        self._database.run(check)
        return self._send(phone, Purpose.REGISTER, wanted=True)

    def send_to_reset(self, phone: str) -> str:
        """Sends a code to reset an account's password with; returns as `send` does.

        Does the same for an unknown phone, but sends no message. Raises RateLimited and
        MessageNotSent.
        """
        account = self._database.run(
            lambda connection: connection.execute(_ACCOUNT, {"phone": phone}).first()
        )
        return self._send(phone, Purpose.RESET, wanted=account is not None)

    def _send(self, phone: str, purpose: Purpose, *, wanted: bool) -> str:
        self._limits.take("codes_phone", phone)
        self._limits.take("codes_all", _EVERYBODY)
        code_id, code = (
            uuid.UUID(int=self._random.getrandbits(128), version=4),
            self.new_code(purpose),
        )
        row = {
            "id": code_id,
            "phone": phone,
            "purpose": purpose,
            # Nothing matches where no message goes out; tries count all the same.
            "digest": self._digests.make(code_id, code if wanted else f"not {code}"),
            "ttl": self._ttl,
        }

        def add(connection: Connection) -> None:
            connection.execute(_FORGET_OLD)
            connection.execute(_ADD, row)

        def settle(outcome: str) -> None:
            values = {"code_id": code_id, "outcome": outcome}
            self._database.run(lambda connection: connection.execute(_SETTLE, values).rowcount)

        # The intention first: a message that nobody recorded could never be accounted for.
        self._database.run(add)
        try:
            if wanted:
                self._sms.send(phone, code)
        except SmsFailed:
            settle("failed")
            raise MessageNotSent from None
        settle("sent")
        return self._judge.reply(code_id, code)

    def new_code(self, purpose: Purpose) -> str:
        """Return a random code; it can begin with zeros."""
        return f"{self._random.randrange(10**purpose.digits):0{purpose.digits}d}"
