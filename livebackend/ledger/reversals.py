"""Reversals: a transfer is never deleted; an opposite transfer returns its coins."""

import time

from sqlalchemy import Connection, text

from livebackend.database.engine import Database
from livebackend.ledger.transfers import (
    CoinAccount,
    Transfer,
    TransferKind,
    TransferOutcome,
    TransferSubmitter,
    derive_request_id,
)

_SUBMIT_TIMEOUT_S = 4

_FIND_TRANSFER = text(
    """
    SELECT transfers.kind, amount, debit_id, credit_id, debit.provider IS NOT NULL AS is_external
    FROM transfers JOIN coin_accounts AS debit ON debit.id = debit_id
    WHERE transfers.id = :transfer_id
    """
)
_INSERT_REQUEST = text(
    """
    INSERT INTO reversal_requests (transfer_id, reason) VALUES (:transfer_id, :reason)
    ON CONFLICT DO NOTHING
    """
)


class Reversals:
    """Reverses transfers. The audit lists reversals that are pending for lack of coins."""

    def __init__(self, database: Database, writer: TransferSubmitter) -> None:
        self._database = database
        self._writer = writer

    def reverse(self, transfer_id: int, *, reason: str) -> TransferOutcome:
        """Reverse a gift or a refill; idempotent.

        INSUFFICIENT_COINS means that the recipient has spent the coins; the reversal stays pending
        until a later call succeeds. Raises LookupError if the transfer is unknown or is itself a
        reversal, and the errors of TransferSubmitter.submit.
        """
        request = {"transfer_id": transfer_id, "reason": reason}

        def insert_request(connection: Connection) -> Transfer:
            transfer = build_reversal(connection, transfer_id)
            connection.execute(_INSERT_REQUEST, request)
            return transfer

        transfer = self._database.run(insert_request)
        return self._writer.submit(transfer, deadline=time.monotonic() + _SUBMIT_TIMEOUT_S)


def build_reversal(connection: Connection, transfer_id: int) -> Transfer:
    """Return a new transfer that returns the coins of the transfer with this id.

    The request id depends only on the reversed transfer, so that the ledger cannot reverse it
    twice. Raises LookupError if the transfer is unknown or is itself a reversal.
    """
    row = connection.execute(_FIND_TRANSFER, {"transfer_id": transfer_id}).one_or_none()
    if row is None:
        raise LookupError(f"there is no transfer {transfer_id}")
    if row.kind == TransferKind.REVERSAL:
        raise LookupError(f"transfer {transfer_id} is a reversal and cannot be reversed")
    # The recipient is the actor, because the reversal debits the recipient's account, and a debited
    # user must be the actor.
    return Transfer(
        kind=TransferKind.REVERSAL,
        actor_id=row.credit_id,
        debit=CoinAccount(row.credit_id),
        credit=CoinAccount(row.debit_id, external=row.is_external),
        amount=row.amount,
        request_id=derive_request_id("reversal", row.credit_id, str(transfer_id)),
        reverses_id=transfer_id,
    )
