"""Balances, transfer history, and the top givers of a host."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from livebackend.core.errors import UnknownUser
from livebackend.ledger.transfers import TransferKind

MAX_RECORDS = 100
_AFTER_ALL_IDS = 2**63 - 1
_MAX_GIVERS = 20

# The query uses index range scans with subqueries per row, because a cached plan for joins becomes
# slow as the tables grow. The balance is read in the same statement, so that it matches the newest
# transfer.
_FIND_RECORDS = text(
    """
    WITH own AS (SELECT id FROM coin_accounts WHERE owner_id = :account_id),
    page AS (
        (SELECT id, kind, -amount AS coins, credit_id AS other_id, created_at FROM transfers
        WHERE debit_id = (SELECT id FROM own) AND id < :before ORDER BY id DESC LIMIT :limit)
        UNION ALL
        (SELECT id, kind, amount, debit_id, created_at FROM transfers
        WHERE credit_id = (SELECT id FROM own) AND id < :before ORDER BY id DESC LIMIT :limit)
        ORDER BY id DESC LIMIT :limit
    )
    SELECT id, kind, coins, created_at,
        (SELECT ARRAY[nickname, public_id]
            FROM coin_accounts JOIN accounts ON accounts.id = owner_id
            WHERE coin_accounts.id = other_id AND phone IS NOT NULL) AS other,
        (SELECT description FROM gifts WHERE transfer_id = page.id) AS description,
        coins > 0 AND EXISTS (SELECT FROM blocks WHERE account_id = :account_id AND blocked_id = (
            SELECT owner_id FROM coin_accounts WHERE coin_accounts.id = other_id
        )) AS is_from_blocked_user,
        (SELECT sum(amount)::bigint FROM coin_slots
            WHERE coin_account_id = (SELECT id FROM own)) AS balance
    FROM page ORDER BY id DESC
    """
)
# BALANCE is public, because a test replaces it with an incorrect statement.
BALANCE = text(
    """
    SELECT coalesce(sum(amount), 0)::bigint FROM coin_slots
    WHERE coin_account_id = (SELECT id FROM coin_accounts WHERE owner_id = :account_id)
    """
)
_FIND_HOST = text(
    """
    SELECT coin_accounts.id FROM coin_accounts JOIN accounts ON accounts.id = owner_id
    WHERE (phone = :user_id OR public_id = :user_id) AND phone IS NOT NULL
    """
)
# Only the newest 10,000 gifts of a host are read, so that the query is fast for every host. Of
# these gifts, the reversed ones do not count.
_FIND_GIVERS = text(
    """
    WITH newest_gifts AS (
        SELECT id, debit_id, amount FROM transfers
        WHERE credit_id = :host AND kind = :gift ORDER BY id DESC LIMIT 10000
    )
    SELECT CASE WHEN phone IS NOT NULL THEN public_id END, nickname, head_image,
        sum(newest_gifts.amount)::bigint AS coins
    FROM newest_gifts JOIN coin_accounts ON coin_accounts.id = newest_gifts.debit_id
    JOIN accounts ON accounts.id = owner_id
    WHERE NOT EXISTS (SELECT FROM transfers WHERE reverses_id = newest_gifts.id)
    GROUP BY accounts.id ORDER BY coins DESC, accounts.id LIMIT :limit
    """
)


class HistoryCursor(NamedTuple):
    """The last transfer of a history page, and the balance before that transfer."""

    transfer_id: int
    balance: int


class HistoryRecord(NamedTuple):
    """A transfer in an account's history.

    `coins` is negative for outgoing transfers. `public_id` and `nickname` are the other user's, or
    None for a provider or a removed account. A transfer from a user whom the account has blocked
    has neither nickname nor description. The ids of an account's outgoing transfers increase in the
    order of posting. An incoming transfer has a lower id than the transfers that spend its coins.
    """

    id: int
    kind: TransferKind
    coins: int
    balance_after: int
    public_id: str | None
    nickname: str | None
    description: str | None
    created_at: datetime


class Giver(NamedTuple):
    """A user and the coins that they gave to a host.

    `public_id` is None for a removed account.
    """

    public_id: str | None
    nickname: str | None
    head_image: str | None
    coins: int


class CoinHistory:
    """Reads balances, transfer histories and the top givers of hosts from the ledger."""

    def balance(self, connection: Connection, account_id: int) -> int:
        """Return the balance of an account."""
        coins: int = connection.execute(BALANCE, {"account_id": account_id}).scalar_one()
        return coins

    def records(
        self,
        connection: Connection,
        account_id: int,
        *,
        before: HistoryCursor | None,
        limit: int | None = None,
    ) -> tuple[list[HistoryRecord], HistoryCursor | None]:
        """Return a page of transfers, newest first, and the cursor of the next page.

        The cursor is None on the last page. By default, a page has 100 transfers.
        """
        limit = limit or MAX_RECORDS
        before_transfer_id = before.transfer_id if before else _AFTER_ALL_IDS
        values = {"account_id": account_id, "before": before_transfer_id, "limit": limit + 1}
        rows = connection.execute(_FIND_RECORDS, values).all()
        records: list[HistoryRecord] = []
        balance = before.balance if before else rows[0].balance if rows else 0
        for row in rows[:limit]:
            nickname, public_id = row.other or (None, None)
            records.append(
                HistoryRecord(
                    id=row.id,
                    kind=TransferKind(row.kind),
                    coins=row.coins,
                    balance_after=balance,
                    public_id=public_id,
                    nickname=None if row.is_from_blocked_user else nickname,
                    description=None if row.is_from_blocked_user else row.description,
                    created_at=row.created_at,
                )
            )
            balance -= row.coins
        return records, HistoryCursor(records[-1].id, balance) if len(rows) > limit else None

    def top_givers(self, connection: Connection, *, host: str) -> list[Giver]:
        """Return the users who gave a host the most coins: at most 20, most coins first.

        Only the newest 10,000 gifts of the host count. Raises UnknownUser if no account has the
        phone number or public id `host`.
        """
        host_id = connection.execute(_FIND_HOST, {"user_id": host}).scalar_one_or_none()
        if host_id is None:
            raise UnknownUser
        values = {"host": host_id, "gift": int(TransferKind.GIFT), "limit": _MAX_GIVERS}
        return [Giver(*row) for row in connection.execute(_FIND_GIVERS, values)]
