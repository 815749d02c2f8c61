"""Coin accounts of users and of payment providers."""

from sqlalchemy import Connection, text

_INSERT_ACCOUNT = text(
    """
    WITH opened AS (INSERT INTO coin_accounts (owner_id) VALUES (:owner_id) RETURNING id)
    INSERT INTO coin_slots (coin_account_id, slot) SELECT id, 0 FROM opened
    RETURNING coin_account_id
    """
)
_INSERT_PROVIDER_ACCOUNT = text(
    "INSERT INTO coin_accounts (provider) VALUES (:provider) ON CONFLICT DO NOTHING"
)
_FIND_PROVIDER_ACCOUNT = text("SELECT id FROM coin_accounts WHERE provider = :provider")


def open_account(connection: Connection, owner_id: int) -> int:
    """Create a user's coin account with a balance of 0; return its id."""
    account_id: int = connection.execute(_INSERT_ACCOUNT, {"owner_id": owner_id}).scalar_one()
    return account_id


def external_account(connection: Connection, provider: str) -> int:
    """Return the coin account of a payment provider; create it if necessary."""
    values = {"provider": provider}
    existing_id: int | None = connection.execute(
        _FIND_PROVIDER_ACCOUNT, values
    ).scalar_one_or_none()
    if existing_id is not None:
        return existing_id
    connection.execute(_INSERT_PROVIDER_ACCOUNT, values)
    new_id: int = connection.execute(_FIND_PROVIDER_ACCOUNT, values).scalar_one()
    return new_id
