"""Corrections: what was booked stays booked, and a transfer the other way makes it good."""

import time

from sqlalchemy import Connection, text

from livebackend.database.engine import Database
from livebackend.ledger.transfers import CoinAccount, Kind, Outcome, Transfer, Writer, request_key

_WAIT_S = 4

_TRANSFER = text(
    """
    SELECT transfers.kind, amount, debit_id, credit_id, debit.provider IS NOT NULL AS from_outside
    FROM transfers JOIN coin_accounts AS debit ON debit.id = debit_id
    WHERE transfers.id = :transfer_id
    """
)
_ASK = text(
    """
    INSERT INTO reversal_requests (transfer_id, reason) VALUES (:transfer_id, :reason)
    ON CONFLICT DO NOTHING
    """
)


class Reversals:
    """Takes transfers back. One that can't be covered stays open, and the audit lists it."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    def reverse(self, transfer_id: int, *, reason: str) -> Outcome:
        """Takes a gift or a refill back from whoever got it; repeated, it is done once.

        NO_COINS: whoever got them has spent them; the reversal is open until this is called again.
        Raises LookupError for no such transfer, and for a reversal; Unavailable as the writer does.
        """
        asked = {"transfer_id": transfer_id, "reason": reason}

        def ask(connection: Connection) -> Transfer:
            transfer = reversal_of(connection, transfer_id)
            connection.execute(_ASK, asked)
            return transfer

        transfer = self._database.run(ask)
        return self._writer.submit(transfer, deadline=time.monotonic() + _WAIT_S)


def reversal_of(connection: Connection, transfer_id: int) -> Transfer:
    """Return the transfer that reverses another one, with the same request id each time.

    Raises LookupError for an unknown transfer, and for a reversal.
    """
    row = connection.execute(_TRANSFER, {"transfer_id": transfer_id}).one_or_none()
    if row is None:
        raise LookupError(f"there is no transfer {transfer_id}")
    if row.kind == Kind.REVERSAL:
        raise LookupError(f"transfer {transfer_id} is a reversal itself")
    # The account that got the coins is the actor: it is locked while they go back.
    return Transfer(
        kind=Kind.REVERSAL,
        actor=row.credit_id,
        debit=CoinAccount(row.credit_id),
        credit=CoinAccount(row.debit_id, external=row.from_outside),
        amount=row.amount,
        request_id=request_key("reversal", row.credit_id, str(transfer_id)),
        reverses=transfer_id,
    )
