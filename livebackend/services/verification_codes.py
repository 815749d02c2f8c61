"""Verification codes: making one, and sending it by SMS."""

import uuid
from datetime import timedelta
from random import Random

from sqlalchemy import (
    Connection,
    Interval,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from livebackend import models
from livebackend.core.errors import MessageNotSent, PhoneTaken
from livebackend.database.engine import Database
from livebackend.gateways.sms.protocol import SmsFailed, SmsGateway
from livebackend.services.code_verifiers import Digests, Judge, Purpose
from livebackend.services.rate_limits import Limits

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
        account = self._database.execute_one(_ACCOUNT, phone=phone)
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
            self._database.execute_one(_SETTLE, code_id=code_id, outcome=outcome)

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
