"""Codes by SMS: sending one, judging a try, and what a verified phone is worth."""

import hmac
import re
import uuid
from datetime import timedelta
from hashlib import sha256
from random import Random

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

from livebackend.db import Database
from livebackend.gateways.sms import SmsFailed, SmsGateway
from livebackend.models import accounts, code_tries, codes
from livebackend.results import Failure, Reason, Result

_WRONG_TRIES_MAX = 5
_VERIFIED_FOR = timedelta(minutes=15)
# Among how many open codes the one that was typed is looked for, the newest first.
_OPEN_CODES_MAX = 1000

_ACCOUNT = select(accounts.c.id).where(accounts.c.phone == bindparam("phone"))
_ADD = insert(codes).values(
    id=bindparam("id"),
    phone=bindparam("phone"),
    digest=bindparam("digest"),
    expires_at=func.now() + bindparam("ttl", type_=Interval),
)
_SETTLE = (
    update(codes)
    .where(codes.c.id == bindparam("code_id"), codes.c.state == "unsent")
    .values(state=bindparam("outcome"))
)
_OPEN = (
    select(codes.c.id, codes.c.digest)
    .where(codes.c.state == "sent", codes.c.expires_at > func.now())
    .order_by(codes.c.expires_at.desc())
    .limit(_OPEN_CODES_MAX)
)
_VERIFY = (
    update(codes)
    .where(codes.c.id.in_(bindparam("ids", expanding=True)), codes.c.state == "sent")
    .values(state="verified", verified_at=func.now())
)
_VERIFIED = and_(
    codes.c.phone == bindparam("of_phone"),
    codes.c.state == "verified",
    codes.c.verified_at > func.now() - _VERIFIED_FOR,
)
_IS_VERIFIED = select(exists().where(_VERIFIED))
_USE = update(codes).where(_VERIFIED).values(state="spent")
# One row for each value tried at, so that its lock makes the count exact.
_COUNT_TRY = text(
    """
    INSERT INTO code_tries (code_v_digest, tried_at, last_tried_at)
    VALUES (:code_v_digest, ARRAY[now()], now())
    ON CONFLICT (code_v_digest) DO UPDATE SET last_tried_at = now(), tried_at = (
        SELECT array_agg(moment) FROM (
            SELECT moment FROM unnest(code_tries.tried_at || now()) AS moment
            WHERE moment > now() - interval '300 seconds'
            ORDER BY moment DESC LIMIT :most
        ) AS newest)
    RETURNING cardinality(tried_at)
    """
)
_FORGET_TRIES = delete(code_tries).where(code_tries.c.code_v_digest == bindparam("code_v_digest"))
# A few at a time with each try, so that the table stays as small as the traffic of minutes.
_FORGET_OLD_TRIES = text(
    """
    DELETE FROM code_tries WHERE code_v_digest IN (
        SELECT code_v_digest FROM code_tries
        WHERE last_tried_at < now() - interval '300 seconds'
        ORDER BY last_tried_at LIMIT 10 FOR UPDATE SKIP LOCKED)
    """
)


def is_verified(connection: Connection, phone: str) -> bool:
    """Whether the phone was verified in the last 15 minutes, and not used since."""
    verified: bool = connection.execute(_IS_VERIFIED, {"of_phone": phone}).scalar_one()
    return verified


def use_verification(connection: Connection, phone: str) -> bool:
    """Uses up a phone's verification; False if there is none."""
    return connection.execute(_USE, {"of_phone": phone}).rowcount > 0


class Codes:
    """Sends codes and judges them.

    A code is four digits from `random`, lives for `ttl`, and is kept as a digest under `key`.
    """

    def __init__(
        self, database: Database, sms: SmsGateway, *, random: Random, key: str, ttl: timedelta
    ) -> None:
        self._database = database
        self._sms = sms
        self._random = random
        self._key = key.encode()
        self._ttl = ttl

    def send(self, phone: str) -> str:
        """Sends a new code to a phone; returns the code once it is on its way.

        Fails with: PHONE_TAKEN, CODE_NOT_SENT.
        """
        code_id, code = uuid.UUID(int=self._random.getrandbits(128), version=4), self._new_code()

        def add(connection: Connection) -> None:
            if connection.execute(_ACCOUNT, {"phone": phone}).first():
                raise Failure(Result.PHONE_TAKEN, "phone", Reason.TAKEN)
            digest = self._digest(code_id, code)
            connection.execute(
                _ADD, {"id": code_id, "phone": phone, "digest": digest, "ttl": self._ttl}
            )

        def settle(connection: Connection, outcome: str) -> None:
            connection.execute(_SETTLE, {"code_id": code_id, "outcome": outcome})

        # The intention first: a message that nobody recorded could never be accounted for.
        self._database.run(add)
        try:
            self._sms.send(phone, code)
        except SmsFailed:
            self._database.run(lambda connection: settle(connection, "void"))
            raise Failure(Result.CODE_NOT_SENT, "message", Reason.OUTSIDE_FAILED) from None
        self._database.run(lambda connection: settle(connection, "sent"))
        return code

    def verify(self, connection: Connection, *, code_v: str, code: str) -> Result:
        """Judges a try at a code that stood in the reply: OK, WRONG_CODE or TOO_MANY_TRIES.

        A wrong try is counted, so the transaction must be committed whatever the verdict is.
        """
        code_v_digest = sha256(code_v.encode()).digest()
        if re.fullmatch("[0-9]{4}", code) and code == code_v:
            connection.execute(_FORGET_TRIES, {"code_v_digest": code_v_digest})
            self._verify_phones(connection, code)
            return Result.OK
        if not code_v:
            return Result.WRONG_CODE  # a try at nothing, which has no count
        connection.execute(_FORGET_OLD_TRIES)
        tries = connection.execute(
            _COUNT_TRY, {"code_v_digest": code_v_digest, "most": _WRONG_TRIES_MAX}
        ).scalar_one()
        return Result.TOO_MANY_TRIES if tries >= _WRONG_TRIES_MAX else Result.WRONG_CODE

    def _verify_phones(self, connection: Connection, code: str) -> None:
        matching = [
            row.id
            for row in connection.execute(_OPEN)
            if hmac.compare_digest(row.digest, self._digest(row.id, code))
        ]
        if matching:
            connection.execute(_VERIFY, {"ids": matching})

    def _new_code(self) -> str:
        return f"{self._random.randrange(10_000):04d}"

    def _digest(self, code_id: uuid.UUID, code: str) -> bytes:
        return hmac.digest(self._key, code_id.bytes + code.encode(), "sha256")
