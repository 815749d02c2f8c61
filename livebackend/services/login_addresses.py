"""The client addresses from which each account has logged in."""

import hmac
from collections.abc import Sequence

from sqlalchemy import Connection, TextClause, text

# The oldest address is deleted first.
MAX_ADDRESSES = 10
_DIGEST_CHARACTERS = 16

# A removed account has no addresses.
_ADD = text(
    f"""
    INSERT INTO login_addresses (account_id, digests)
    SELECT id, ARRAY[:digest] FROM accounts WHERE id = :account_id AND phone IS NOT NULL
    ON CONFLICT (account_id) DO UPDATE SET digests =
        (ARRAY[:digest] || array_remove(login_addresses.digests, :digest))[1:{MAX_ADDRESSES}]
    """  # noqa: S608  # the inserted value is a constant
)
_REPLACE = text(
    """
    INSERT INTO login_addresses (account_id, digests)
    SELECT id, ARRAY[:digest] FROM accounts WHERE id = :account_id AND phone IS NOT NULL
    ON CONFLICT (account_id) DO UPDATE SET digests = excluded.digests
    """
)


class LoginAddresses:
    """Stores the last addresses of each account, as digests with the secret `key`.

    The digest includes the account, so that equal addresses of two accounts have different digests.
    If `enabled` is false, stores nothing.
    """

    def __init__(self, key: bytes, *, enabled: bool) -> None:
        self._key = key
        self._enabled = enabled

    def is_known(self, digests: Sequence[str] | None, *, account_id: int, address: str) -> bool:
        """Return whether the address is one of the stored digests of the account."""
        return self._digest(account_id, address) in (digests or ())

    def is_latest(self, digests: Sequence[str] | None, *, account_id: int, address: str) -> bool:
        """Return whether `add` would change nothing."""
        return not self._enabled or self.is_known(
            (digests or ())[:1], account_id=account_id, address=address
        )

    def add(self, connection: Connection, *, account_id: int, address: str) -> None:
        """Store an address as the last one of the account."""
        self._execute(connection, _ADD, account_id, address)

    def replace(self, connection: Connection, *, account_id: int, address: str) -> None:
        """Store an address, and delete the other addresses of the account."""
        self._execute(connection, _REPLACE, account_id, address)

    def _execute(
        self, connection: Connection, statement: TextClause, account_id: int, address: str
    ) -> None:
        if self._enabled:
            digest = self._digest(account_id, address)
            connection.execute(statement, {"account_id": account_id, "digest": digest})

    def _digest(self, account_id: int, address: str) -> str:
        digest = hmac.digest(self._key, f"{account_id} {address}".encode(), "sha256")
        return digest.hex()[:_DIGEST_CHARACTERS]
