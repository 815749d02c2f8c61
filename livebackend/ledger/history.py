"""What an account's coins did: its transfers, newest first, and who gave a host most."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from livebackend.core.errors import UnknownUser
from livebackend.ledger.transfers import Kind

RECORDS_MAX = 100
_ALL = 2**63 - 1
_GIVERS_MAX = 20

# Each side is one range of an index, and each row two looks into others: joins would be planned for
# tables of a size that they soon have no more. The balance is read in the same statement, so that
# it is the one that the newest transfer left.
_RECORDS = text(
    """
    WITH mine AS (SELECT id FROM coin_accounts WHERE owner_id = :account_id),
    page AS (
        (SELECT id, kind, -amount AS coins, credit_id AS other_id, created_at FROM transfers
        WHERE debit_id = (SELECT id FROM mine) AND id < :before ORDER BY id DESC LIMIT :most)
        UNION ALL
        (SELECT id, kind, amount, debit_id, created_at FROM transfers
        WHERE credit_id = (SELECT id FROM mine) AND id < :before ORDER BY id DESC LIMIT :most)
        ORDER BY id DESC LIMIT :most
    )
    SELECT id, kind, coins, created_at,
        (SELECT nickname FROM coin_accounts JOIN accounts ON accounts.id = owner_id
            WHERE coin_accounts.id = other_id) AS nickname,
        (SELECT description FROM gifts WHERE transfer_id = page.id) AS description,
        (SELECT sum(amount)::bigint FROM coin_slots
            WHERE coin_account_id = (SELECT id FROM mine)) AS balance
    FROM page ORDER BY id DESC
    """
)
# The tests replace this statement with a wrong one, and check that they notice.
BALANCE = text(
    """
    SELECT coalesce(sum(amount), 0)::bigint FROM coin_slots
    WHERE coin_account_id = (SELECT id FROM coin_accounts WHERE owner_id = :account_id)
    """
)
_HOST = text(
    """
    SELECT coin_accounts.id FROM coin_accounts JOIN accounts ON accounts.id = owner_id
    WHERE phone = :phone
    """
)
# A gift that was reversed is none. The bound keeps it quick for the most famous host.
_GIVERS = text(
    """
    WITH given AS (
        SELECT id, debit_id, amount FROM transfers
        WHERE credit_id = :host AND kind = :gift ORDER BY id DESC LIMIT 10000
    )
    SELECT nickname, head_image, sum(given.amount)::bigint AS coins
    FROM given JOIN coin_accounts ON coin_accounts.id = given.debit_id
    JOIN accounts ON accounts.id = owner_id
    WHERE NOT EXISTS (SELECT FROM transfers WHERE reverses_id = given.id)
    GROUP BY accounts.id ORDER BY coins DESC, accounts.id LIMIT :most
    """
)


class Place(NamedTuple):
    """Where a page of records ended: the transfer, and the coins there were before it."""

    transfer_id: int
    coins: int


class Record(NamedTuple):
    """A transfer as one side sees it: `coins` came, or went if negative, and `left` was there then.

    In the order of the ids, which is the books': one's own payments are ordered by it, and a coin
    stands before its spending. `nickname` is the other side's, if that is somebody.
    """

    id: int
    kind: Kind
    coins: int
    left: int
    nickname: str | None
    description: str | None
    at: datetime


class Giver(NamedTuple):
    nickname: str | None
    head_image: str | None
    coins: int


class CoinHistory:
    """Balances and transfers of accounts, as their owners see them."""

    def balance(self, connection: Connection, account_id: int) -> int:
        """Return the coins of an account."""
        coins: int = connection.execute(BALANCE, {"account_id": account_id}).scalar_one()
        return coins

    def records(
        self,
        connection: Connection,
        account_id: int,
        *,
        before: Place | None,
        limit: int | None = None,
    ) -> tuple[list[Record], Place | None]:
        """Return an account's transfers before a position, the newest first: 100 by default.

        Also returns the position of the next page, if there is one.
        """
        limit = limit or RECORDS_MAX
        first = before.transfer_id if before else _ALL
        asked = {"account_id": account_id, "before": first, "most": limit + 1}
        rows = connection.execute(_RECORDS, asked).all()
        found: list[Record] = []
        left = before.coins if before else rows[0].balance if rows else 0
        for row in rows[:limit]:
            found.append(
                Record(
                    id=row.id,
                    kind=Kind(row.kind),
                    coins=row.coins,
                    left=left,
                    nickname=row.nickname,
                    description=row.description,
                    at=row.created_at,
                )
            )
            left -= row.coins
        return found, Place(found[-1].id, left) if len(rows) > limit else None

    def top_givers(self, connection: Connection, *, host: str) -> list[Giver]:
        """Return the users who gave the most coins in the newest 10,000 gifts of a host.

        At most 20. Raises UnknownUser.
        """
        host_id = connection.execute(_HOST, {"phone": host}).scalar_one_or_none()
        if host_id is None:
            raise UnknownUser
        asked = {"host": host_id, "gift": int(Kind.GIFT), "most": _GIVERS_MAX}
        return [Giver(*row) for row in connection.execute(_GIVERS, asked)]
