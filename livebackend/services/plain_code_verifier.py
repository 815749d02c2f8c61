"""Verification of codes that the API returns to the client, for development only."""

import uuid
from collections.abc import Sequence
from hashlib import sha256

from sqlalchemy import Connection, bindparam, delete, text

from livebackend import models
from livebackend.core.errors import TooManyAttempts, WrongCode
from livebackend.services.code_verifiers import (
    MAX_WRONG_ATTEMPTS,
    CodeHasher,
    Purpose,
)

# Maximum number of open codes that one verification compares, newest first.
_MAX_OPEN_CODES = 1000

_OPEN_CODES = text(
    """
    SELECT id, digest FROM verification_codes
    WHERE state = 'sent' AND expires_at > now() AND purpose = :purpose
        AND phone = coalesce(:phone, phone)
    ORDER BY expires_at DESC LIMIT :limit
    """
)
# Each ticket has one row. The statement locks the row, so that no concurrent attempt is missed.
_COUNT_WRONG_ATTEMPT = text(
    """
    INSERT INTO code_attempts (ticket_digest, attempted_at, last_attempted_at)
    VALUES (:ticket_digest, ARRAY[now()], now())
    ON CONFLICT (ticket_digest) DO UPDATE SET last_attempted_at = now(), attempted_at = (
        SELECT array_agg(moment) FROM (
            SELECT moment FROM unnest(code_attempts.attempted_at || now()) AS moment
            WHERE moment > now() - interval '300 seconds'
            ORDER BY moment DESC LIMIT :limit
        ) AS newest)
    RETURNING cardinality(attempted_at)
    """
)
_DELETE_ATTEMPTS = delete(models.CodeAttempts).where(
    models.CodeAttempts.ticket_digest == bindparam("ticket_digest")
)


class PlainCodeVerifier:
    """Verifies codes whose ticket is the code itself: both values must be equal.

    For a password reset, the code must also have been sent to the user's phone.
    """

    def __init__(self, hasher: CodeHasher) -> None:
        self._hasher = hasher

    def issue_ticket(self, code_id: uuid.UUID, code: str) -> str:
        return code

    def check(
        self,
        connection: Connection,
        *,
        ticket: str,
        code: str,
        purpose: Purpose,
        phone: str | None = None,
    ) -> Sequence[uuid.UUID]:
        if purpose.is_code(code) and code == ticket:
            code_ids = self._matching_codes(connection, code, purpose, phone)
            if code_ids or purpose is Purpose.REGISTER:
                connection.execute(_DELETE_ATTEMPTS, {"ticket_digest": _digest(ticket)})
                return code_ids
        if not ticket:
            raise WrongCode  # without a ticket, attempts cannot be counted
        attempt_count = connection.execute(
            _COUNT_WRONG_ATTEMPT, {"ticket_digest": _digest(ticket), "limit": MAX_WRONG_ATTEMPTS}
        ).scalar_one()
        raise TooManyAttempts if attempt_count >= MAX_WRONG_ATTEMPTS else WrongCode

    def _matching_codes(
        self, connection: Connection, code: str, purpose: Purpose, phone: str | None
    ) -> list[uuid.UUID]:
        """Return the ids of the sent, unexpired verification codes that equal `code`."""
        rows = connection.execute(
            _OPEN_CODES, {"purpose": purpose, "phone": phone, "limit": _MAX_OPEN_CODES}
        )
        return [row.id for row in rows if self._hasher.matches(row.digest, row.id, code)]


def _digest(ticket: str) -> bytes:
    return sha256(ticket.encode()).digest()
