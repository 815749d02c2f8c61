"""Coin accounts for ledger tests, and an audit that uses no application code."""

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
    Payment,
    Transfer,
    TransferKind,
    TransferOutcome,
    TransferStatus,
    derive_request_id,
)

CoinsBySlot = Mapping[int, int]

_INSERT_OWNER = text(
    "INSERT INTO accounts (phone, password_hash)"
    " SELECT to_char(count(*), 'FM13800000000'), 'x' FROM accounts RETURNING id"
)
_SELECT_OWNER_ID = text("SELECT owner_id FROM coin_accounts WHERE id = :id")
_INSERT_REFILL = text(
    "INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)"
    " VALUES (2, :provider, :account, :coins, :account, gen_random_uuid())"
)
_ADD_TO_SLOT = text(
    "INSERT INTO coin_slots VALUES (:account, :slot, :coins) ON CONFLICT (coin_account_id, slot)"
    " DO UPDATE SET amount = coin_slots.amount + :coins"
)
_INSERT_ORDER = text(
    "INSERT INTO payment_orders (provider, order_id, account_id, request_id, fen, coins)"
    " SELECT 'direct', :order_id, owner_id, gen_random_uuid(), :coins * 100, :coins"
    " FROM coin_accounts WHERE id = :id"
)
# Returns one row for each error in the ledger.
_SELECT_ERRORS = text(
    """
    WITH history AS (
        SELECT coin_account_id AS id, sum(amount) AS coins FROM entries GROUP BY 1
    ), held AS (
        SELECT coin_account_id AS id, sum(amount) AS coins FROM coin_slots GROUP BY 1
    ), account_sums AS (
        SELECT id, provider, coalesce(history.coins, 0) AS booked, coalesce(held.coins, 0) AS held
        FROM coin_accounts LEFT JOIN history USING (id) LEFT JOIN held USING (id)
    )
    SELECT format('account %s: %s booked, %s in slots', id, booked, held) FROM account_sums
    WHERE provider IS NULL AND booked <> held
    UNION ALL
    SELECT format('%s coins refilled, %s in slots',
        sum(-booked) FILTER (WHERE provider IS NOT NULL), sum(held)) FROM account_sums
    HAVING sum(-booked) FILTER (WHERE provider IS NOT NULL) <> sum(held)
    UNION ALL
    SELECT format('account %s: negative amount %s in slot %s', coin_account_id, amount, slot)
    FROM coin_slots
    WHERE amount < 0
    UNION ALL
    SELECT format('account %s: request %s executed twice', actor_id, request_id) FROM transfers
    GROUP BY actor_id, request_id HAVING count(*) > 1
    UNION ALL
    SELECT format('transfer %s: only one of the gift transfer and its gifts row',
        coalesce(id, transfer_id))
    FROM (SELECT id FROM transfers WHERE kind = 1) AS gift_transfers
    FULL JOIN gifts ON transfer_id = id WHERE id IS NULL OR transfer_id IS NULL
    """
)


class LedgerFixture:
    """Creates coin accounts and transfers, and audits the ledger."""

    def __init__(self, database: Database) -> None:
        self.database = database
        provider_id = database.run(lambda connection: external_account(connection, "direct"))
        self.provider_account = CoinAccount(provider_id, external=True)

    def open(self, coins: CoinsBySlot | None = None) -> CoinAccount:
        """Create a user; return their coin account. `coins` maps slots to coins."""

        def open_in_transaction(connection: Connection) -> CoinAccount:
            owner_id = connection.execute(_INSERT_OWNER).scalar_one()
            account = CoinAccount(open_account(connection, owner_id))
            self.set_up_balances(connection, {account: coins or {}})
            return account

        return self.database.run(open_in_transaction)

    def set_up_balances(
        self, connection: Connection, coins: Mapping[CoinAccount, CoinsBySlot]
    ) -> None:
        """Refill coin accounts; `coins` maps each account to its coins by slot."""
        rows = [
            {
                "provider": self.provider_account.id,
                "account": account.id,
                "slot": slot,
                "coins": amount,
            }
            for account, slots in coins.items()
            for slot, amount in slots.items()
            if amount
        ]
        if rows:
            connection.execute(_INSERT_REFILL, rows)
            connection.execute(_ADD_TO_SLOT, rows)

    def gift(
        self, giver: CoinAccount, host: CoinAccount, coins: int, key: str | None = None
    ) -> Transfer:
        """Return a gift; gifts with the same `key` have the same request id."""
        return Transfer(
            kind=TransferKind.GIFT,
            actor_id=giver.id,
            debit=giver,
            credit=host,
            amount=coins,
            request_id=_request_id(giver, key),
            gift=Gift(host_id=host.id + 1000, room_id=None, description="a rose"),
        )

    def refill(self, account: CoinAccount, coins: int, key: str | None = None) -> Transfer:
        return Transfer(
            kind=TransferKind.REFILL,
            actor_id=account.id,
            debit=self.provider_account,
            credit=account,
            amount=coins,
            request_id=_request_id(account, key),
        )

    def order_refill(
        self, account: CoinAccount, coins: int, order_id: str | None = None
    ) -> Transfer:
        """Create a payment order; return the refill that settles it."""
        order_id = order_id or uuid.uuid4().hex
        values = {"order_id": order_id, "id": account.id, "coins": coins}
        with self.database.engine.begin() as connection:
            connection.execute(_INSERT_ORDER, values)
        refill = self.refill(account, coins, order_id)
        return replace(refill, payment=Payment("direct", order_id, f"payment of {order_id}"))

    def post(self, *transfers: Transfer, slot: int = 0) -> list[TransferOutcome]:
        """Post a batch in one transaction without retries; return the outcomes."""
        with self.database.engine.begin() as connection:
            return post(connection, transfers, slot)

    def statuses(self, *transfers: Transfer, slot: int = 0) -> list[TransferStatus]:
        return statuses_of(self.post(*transfers, slot=slot))

    def coins(self, *accounts: CoinAccount) -> list[int]:
        with self.database.engine.connect() as connection:
            return [balance(connection, account) for account in accounts]

    def slots(self, account: CoinAccount) -> dict[int, int]:
        with self.database.engine.connect() as connection:
            return slots_of(connection, account)

    def audit_errors(self) -> list[str]:
        """Audit all accounts and transfers; return the errors."""
        with self.database.engine.connect() as connection:
            return audit_errors(connection)


def balance(connection: Connection, account: CoinAccount) -> int:
    """Return the balance of an account, as the application reads it."""
    owner_id: int = connection.execute(_SELECT_OWNER_ID, {"id": account.id}).scalar_one()
    return CoinHistory().balance(connection, owner_id)


def audit_errors(connection: Connection) -> list[str]:
    return list(connection.execute(_SELECT_ERRORS).scalars())


def _request_id(actor: CoinAccount, key: str | None) -> uuid.UUID:
    return derive_request_id("test", actor.id, key) if key else uuid.uuid4()


def statuses_of(outcomes: Sequence[TransferOutcome]) -> list[TransferStatus]:
    return [outcome.status for outcome in outcomes]


def slots_of(connection: Connection, account: CoinAccount) -> dict[int, int]:
    rows = connection.execute(
        text("SELECT slot, amount FROM coin_slots WHERE coin_account_id = :id ORDER BY slot"),
        {"id": account.id},
    )
    return {row.slot: row.amount for row in rows}
