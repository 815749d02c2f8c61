"""Blocks of removed accounts, which apply to a new account with the same phone."""

import hmac
from datetime import timedelta

from sqlalchemy import Connection, Interval, bindparam, text

from livebackend.database.engine import Database

_BATCH_SIZE = 100

_DELETE_OWN_BLOCKS = text("DELETE FROM blocks WHERE account_id = :account_id")
_DELETE_BLOCKS_BY_OTHERS = text("DELETE FROM blocks WHERE blocked_id = :account_id")
_STORE_DIGEST = text(
    """
    UPDATE accounts SET blocked_phone_digest = :digest
    WHERE id = :account_id AND EXISTS (SELECT FROM blocks WHERE blocked_id = :account_id)
    """
)
_APPLY_BLOCKS = text(
    """
    WITH former AS (
        UPDATE accounts SET blocked_phone_digest = NULL
        WHERE blocked_phone_digest = :digest RETURNING id
    ), former_blocks AS (
        DELETE FROM blocks WHERE blocked_id IN (SELECT id FROM former)
        RETURNING account_id, created_at
    )
    INSERT INTO blocks (account_id, blocked_id, created_at)
    SELECT account_id, :account_id, min(created_at) FROM former_blocks GROUP BY account_id
    """
)
_DELETE_EXPIRED = text(
    """
    WITH expired AS (
        UPDATE accounts SET blocked_phone_digest = NULL
        WHERE id IN (
            SELECT id FROM accounts
            WHERE blocked_phone_digest IS NOT NULL AND removed_at < now() - :retention
            LIMIT :batch_size FOR UPDATE SKIP LOCKED
        )
        RETURNING id
    ), deleted_blocks AS (
        DELETE FROM blocks WHERE blocked_id IN (SELECT id FROM expired)
    )
    SELECT count(*) FROM expired
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

        With a retention of zero, all blocks are deleted.
        """
        values = {"account_id": account_id, "digest": self._digest(phone)}
        connection.execute(_DELETE_OWN_BLOCKS, values)
        connection.execute(_STORE_DIGEST if self._retention else _DELETE_BLOCKS_BY_OTHERS, values)

    def apply(self, connection: Connection, account_id: int, *, phone: str) -> None:
        """Apply the kept blocks of a phone to its new account."""
        connection.execute(_APPLY_BLOCKS, {"account_id": account_id, "digest": self._digest(phone)})

    def delete_expired(self) -> int:
        """Delete the blocks of accounts that were removed before `retention`.

        Returns the number of these accounts.
        """

        def delete_batch(connection: Connection) -> int:
            values = {"retention": self._retention}
            batch_count: int = connection.execute(_DELETE_EXPIRED, values).scalar_one()
            return batch_count

        deleted_count = 0
        while batch_count := self._database.run(delete_batch):
            deleted_count += batch_count
        return deleted_count

    def _digest(self, phone: str) -> bytes:
        return hmac.digest(self._key, phone.encode(), "sha256")
