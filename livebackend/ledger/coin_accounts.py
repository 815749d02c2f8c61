"""Coin accounts: those of users, and those that coins come from."""

from sqlalchemy import Connection, text

_OPEN_ACCOUNT = text(
    """
    WITH opened AS (INSERT INTO coin_accounts (owner_id) VALUES (:owner_id) RETURNING id)
    INSERT INTO coin_slots (coin_account_id, slot) SELECT id, 0 FROM opened
    RETURNING coin_account_id
    """
)
_OPEN_EXTERNAL = text(
    "INSERT INTO coin_accounts (provider) VALUES (:provider) ON CONFLICT DO NOTHING"
)
_EXTERNAL = text("SELECT id FROM coin_accounts WHERE provider = :provider")


def open_account(connection: Connection, owner_id: int) -> int:
    """Opens a user's coin account with no coins; returns its id."""
    opened: int = connection.execute(_OPEN_ACCOUNT, {"owner_id": owner_id}).scalar_one()
    return opened


def external_account(connection: Connection, provider: str) -> int:
    """The account that a payment provider's coins come from; opened when there is none."""
    found = connection.execute(_EXTERNAL, {"provider": provider}).scalar_one_or_none()
    if found is None:
        connection.execute(_OPEN_EXTERNAL, {"provider": provider})
        found = connection.execute(_EXTERNAL, {"provider": provider}).scalar_one()
    account_id: int = found
    return account_id
