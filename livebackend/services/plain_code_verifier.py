"""Codes that stand in the reply, as the document's example has it: for development alone."""

import uuid
from hashlib import sha256

from sqlalchemy import Connection, bindparam, delete, text

from livebackend import models
from livebackend.core.errors import TooManyAttempts, WrongCode
from livebackend.services.code_verifiers import WRONG_TRIES_MAX, Digests, Purpose, settle_right

# Among how many open codes the one that was typed is looked for, the newest first.
_OPEN_CODES_MAX = 1000

_OPEN = text(
    """
    SELECT id, digest FROM verification_codes
    WHERE state = 'sent' AND expires_at > now() AND purpose = :purpose
        AND phone = coalesce(:phone, phone)
    ORDER BY expires_at DESC LIMIT :most
    """
)
# One row for each value tried at, so that its lock makes the count exact.
_COUNT_TRY = text(
    """
    INSERT INTO code_attempts (ticket_digest, attempted_at, last_attempted_at)
    VALUES (:ticket_digest, ARRAY[now()], now())
    ON CONFLICT (ticket_digest) DO UPDATE SET last_attempted_at = now(), attempted_at = (
        SELECT array_agg(moment) FROM (
            SELECT moment FROM unnest(code_attempts.attempted_at || now()) AS moment
            WHERE moment > now() - interval '300 seconds'
            ORDER BY moment DESC LIMIT :most
        ) AS newest)
    RETURNING cardinality(attempted_at)
    """
)
_FORGET_TRIES = delete(models.CodeAttempts).where(
    models.CodeAttempts.ticket_digest == bindparam("ticket_digest")
)
# A few at a time with each try, so that the table stays as small as the traffic of minutes.
_FORGET_OLD_TRIES = text(
    """
    DELETE FROM code_attempts WHERE ticket_digest IN (
        SELECT ticket_digest FROM code_attempts
        WHERE last_attempted_at < now() - interval '300 seconds'
        ORDER BY last_attempted_at LIMIT 10 FOR UPDATE SKIP LOCKED)
    """
)


class PlainJudge:
    """The reply is the code. A try is right when both values are the same digits.

    To reset a password, the code must also have been sent to that phone.
    """

    def __init__(self, digests: Digests) -> None:
        self._digests = digests

    def reply(self, code_id: uuid.UUID, code: str) -> str:
        return code

    def verify(
        self,
        connection: Connection,
        *,
        ticket: str,
        code: str,
        purpose: Purpose,
        phone: str | None = None,
    ) -> None:
        ticket_digest = sha256(ticket.encode()).digest()
        if purpose.is_code(code) and code == ticket:
            matching = self._sent(connection, code, purpose, phone)
            if matching or purpose is Purpose.REGISTER:
                connection.execute(_FORGET_TRIES, {"ticket_digest": ticket_digest})
                settle_right(connection, matching, purpose)
                return
        if not ticket:
            raise WrongCode  # without a ticket there is nothing to count
        connection.execute(_FORGET_OLD_TRIES)
        tries = connection.execute(
            _COUNT_TRY, {"ticket_digest": ticket_digest, "most": WRONG_TRIES_MAX}
        ).scalar_one()
        raise TooManyAttempts if tries >= WRONG_TRIES_MAX else WrongCode

    def _sent(
        self, connection: Connection, code: str, purpose: Purpose, phone: str | None
    ) -> list[uuid.UUID]:
        """The open codes with this value."""
        found = connection.execute(
            _OPEN, {"purpose": purpose, "phone": phone, "most": _OPEN_CODES_MAX}
        )
        return [row.id for row in found if self._digests.match(row.digest, row.id, code)]
