"""Blocks of removed accounts, which apply to a new account with the same phone."""

import hmac
from datetime import timedelta

from sqlalchemy import Connection, Interval, bindparam, text

from livebackend.database.engine import Database

_BATCH_SIZE = 100

_DELETE_OWN_BLOCKS = text("DELETE FROM blocks WHERE account_id = :account_id")
_STORE_DIGEST = text(
    """
    UPDATE accounts SET blocked_phone_digest = :digest
    WHERE id = :account_id AND EXISTS (SELECT FROM blocks WHERE blocked_id = :account_id)
    """
)
# The blocks of the former account stay, because they hide the texts of its gifts.
_APPLY_BLOCKS = text(
    """
    WITH former AS (
        UPDATE accounts SET blocked_phone_digest = NULL
        WHERE blocked_phone_digest = :digest RETURNING id
    )
    INSERT INTO blocks (account_id, blocked_id, created_at)
    SELECT account_id, :account_id, min(created_at) FROM blocks
    WHERE blocked_id IN (SELECT id FROM former) GROUP BY account_id
    """
)
_DELETE_EXPIRED = text(
    """
    UPDATE accounts SET blocked_phone_digest = NULL WHERE id IN (
        SELECT id FROM accounts
        WHERE blocked_phone_digest IS NOT NULL AND removed_at < now() - :retention
        LIMIT :batch_size FOR UPDATE SKIP LOCKED)
    """
).bindparams(bindparam("retention", type_=Interval), batch_size=_BATCH_SIZE)


class KeptBlocks:
    """Keeps the blocks of a removed account for `retention`, without its phone number.

    A removed account that other users have blocked has a keyed digest of its phone. `key` is the
    key of the digest.
    """

    def __init__(self, database: Database, *, key: bytes, retention: timedelta) -> None:
        self._database = database
        self._key = key
        self._retention = retention

    def keep(self, connection: Connection, account_id: int, *, phone: str) -> None:
        """Keep the blocks of a removed account by other users; delete its own blocks.

        With a retention of zero, the blocks do not apply to a new account with the phone.
        """
        values = {"account_id": account_id, "digest": self._digest(phone)}
        connection.execute(_DELETE_OWN_BLOCKS, values)
        if self._retention:
            connection.execute(_STORE_DIGEST, values)

    def apply(self, connection: Connection, account_id: int, *, phone: str) -> None:
        """Apply the kept blocks of a phone to its new account."""
        connection.execute(_APPLY_BLOCKS, {"account_id": account_id, "digest": self._digest(phone)})

    def delete_expired(self) -> int:
        """Delete the digests of accounts that were removed before `retention`.

        Returns the number of these accounts.
        """

        def delete_batch(connection: Connection) -> int:
            return connection.execute(_DELETE_EXPIRED, {"retention": self._retention}).rowcount

        deleted_count = 0
        while batch_count := self._database.run(delete_batch):
            deleted_count += batch_count
        return deleted_count

    def _digest(self, phone: str) -> bytes:
        return hmac.digest(self._key, phone.encode(), "sha256")
