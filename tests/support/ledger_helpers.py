"""Coin accounts to try the ledger on, and an audit that shares nothing with ours."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, text

from livebackend.database.engine import Database
from livebackend.ledger.coin_accounts import external_account, open_account
from livebackend.ledger.history import CoinHistory
from livebackend.ledger.posting import post
from livebackend.ledger.transfers import (
    CoinAccount,
    Gift,
    Kind,
    Outcome,
    Payment,
    Status,
    Transfer,
    request_key,
)

Slots = Mapping[int, int]

_NEW_OWNER = text(
    "INSERT INTO accounts (phone, password_hash)"
    " SELECT to_char(count(*), 'FM13800000000'), 'x' FROM accounts RETURNING id"
)
_OWNER = text("SELECT owner_id FROM coin_accounts WHERE id = :id")
_LAY_REFILL = text(
    "INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)"
    " VALUES (2, :bank, :account, :coins, :account, gen_random_uuid())"
)
_LAY_SLOT = text(
    "INSERT INTO coin_slots VALUES (:account, :slot, :coins) ON CONFLICT (coin_account_id, slot)"
    " DO UPDATE SET amount = coin_slots.amount + :coins"
)
_LAY_ORDER = text(
    "INSERT INTO payment_orders (provider, order_id, account_id, request_id, fen, coins)"
    " SELECT 'direct', :order_id, owner_id, gen_random_uuid(), :coins * 100, :coins"
    " FROM coin_accounts WHERE id = :id"
)
# One line for each thing that is wrong.
_AUDIT = text(
    """
    WITH history AS (
        SELECT coin_account_id AS id, sum(amount) AS coins FROM entries GROUP BY 1
    ), held AS (
        SELECT coin_account_id AS id, sum(amount) AS coins FROM coin_slots GROUP BY 1
    ), books AS (
        SELECT id, provider, coalesce(history.coins, 0) AS booked, coalesce(held.coins, 0) AS held
        FROM coin_accounts LEFT JOIN history USING (id) LEFT JOIN held USING (id)
    )
    SELECT format('account %s: %s booked, %s held', id, booked, held) FROM books
    WHERE provider IS NULL AND booked <> held
    UNION ALL
    SELECT format('%s coins in, %s held', sum(-booked) FILTER (WHERE provider IS NOT NULL),
        sum(held)) FROM books
    HAVING sum(-booked) FILTER (WHERE provider IS NOT NULL) <> sum(held)
    UNION ALL
    SELECT format('account %s: %s in slot %s', coin_account_id, amount, slot) FROM coin_slots
    WHERE amount < 0
    UNION ALL
    SELECT format('account %s: %s done twice', actor_id, request_id) FROM transfers
    GROUP BY actor_id, request_id HAVING count(*) > 1
    UNION ALL
    SELECT format('transfer %s: a gift of nothing, or to nobody', coalesce(id, transfer_id))
    FROM (SELECT id FROM transfers WHERE kind = 1) AS given
    FULL JOIN gifts ON transfer_id = id WHERE id IS NULL OR transfer_id IS NULL
    """
)


class Books:
    """Coin accounts to try the ledger on, and what an auditor reads in them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        bank = database.run(lambda connection: external_account(connection, "direct"))
        self.bank = CoinAccount(bank, external=True)

    def open(self, coins: Slots | None = None) -> CoinAccount:
        """A user's account with so many coins in its slots."""

        def work(connection: Connection) -> CoinAccount:
            owner = connection.execute(_NEW_OWNER).scalar_one()
            account = CoinAccount(open_account(connection, owner))
            self.lay(connection, {account: coins or {}})
            return account

        return self.database.run(work)

    def lay(self, connection: Connection, coins: Mapping[CoinAccount, Slots]) -> None:
        """Refills accounts so that the coins lie in these slots."""
        laid = [
            {"bank": self.bank.id, "account": account.id, "slot": slot, "coins": amount}
            for account, slots in coins.items()
            for slot, amount in slots.items()
            if amount
        ]
        if laid:
            connection.execute(_LAY_REFILL, laid)
            connection.execute(_LAY_SLOT, laid)

    def gift(
        self, giver: CoinAccount, host: CoinAccount, coins: int, key: str | None = None
    ) -> Transfer:
        """A gift; without a key, one that was never posted before."""
        return Transfer(
            kind=Kind.GIFT,
            actor=giver.id,
            debit=giver,
            credit=host,
            amount=coins,
            request_id=_key(giver, key),
            gift=Gift(host_id=host.id + 1000, room_id=None, description="a rose"),
        )

    def refill(self, account: CoinAccount, coins: int, key: str | None = None) -> Transfer:
        return Transfer(
            kind=Kind.REFILL,
            actor=account.id,
            debit=self.bank,
            credit=account,
            amount=coins,
            request_id=_key(account, key),
        )

    def order(self, account: CoinAccount, coins: int, order_id: str | None = None) -> Transfer:
        """A refill that settles a new order."""
        order_id = order_id or uuid.uuid4().hex
        ordered = {"order_id": order_id, "id": account.id, "coins": coins}
        with self.database.engine.begin() as connection:
            connection.execute(_LAY_ORDER, ordered)
        refill = self.refill(account, coins, order_id)
        return replace(refill, payment=Payment("direct", order_id, f"payment of {order_id}"))

    def post(self, *transfers: Transfer, slot: int = 0) -> list[Outcome]:
        """Posts a batch in a transaction of its own; a race that was lost is an error."""
        with self.database.engine.begin() as connection:
            return post(connection, transfers, slot)

    def statuses(self, *transfers: Transfer, slot: int = 0) -> list[Status]:
        return statuses_of(self.post(*transfers, slot=slot))

    def coins(self, *accounts: CoinAccount) -> list[int]:
        with self.database.engine.connect() as connection:
            return [balance(connection, account) for account in accounts]

    def slots(self, account: CoinAccount) -> dict[int, int]:
        with self.database.engine.connect() as connection:
            return slots_of(connection, account)

    def faults(self) -> list[str]:
        """What an audit of the whole books finds."""
        with self.database.engine.connect() as connection:
            return faults(connection)


def balance(connection: Connection, account: CoinAccount) -> int:
    """The coins of a user's account, as the application reads them."""
    owner: int = connection.execute(_OWNER, {"id": account.id}).scalar_one()
    return CoinHistory().balance(connection, owner)


def faults(connection: Connection) -> list[str]:
    return list(connection.execute(_AUDIT).scalars())


def _key(actor: CoinAccount, key: str | None) -> uuid.UUID:
    return request_key("test", actor.id, key) if key else uuid.uuid4()


def statuses_of(outcomes: Sequence[Outcome]) -> list[Status]:
    return [outcome.status for outcome in outcomes]


def slots_of(connection: Connection, account: CoinAccount) -> dict[int, int]:
    found = connection.execute(
        text("SELECT slot, amount FROM coin_slots WHERE coin_account_id = :id ORDER BY slot"),
        {"id": account.id},
    )
    return {row.slot: row.amount for row in found}
