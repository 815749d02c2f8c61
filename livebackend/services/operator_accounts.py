"""Accounts: queries and changes for operators."""

import logging
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, select, text, update

from livebackend import models
from livebackend.events.declarations import EventType
from livebackend.events.outbox import Outbox

log = logging.getLogger(__name__)

_FIND_DETAILS = text(
    """
    SELECT a.id, a.phone, a.public_id, a.nickname, a.gender, a.head_image, a.created_at,
        a.disabled_at,
        (SELECT count(*) FROM friendships WHERE account_id = a.id) AS friends,
        (SELECT count(*) FROM friend_requests
            WHERE addressee_id = a.id AND state = 'open') AS requests,
        (SELECT coalesce(sum(amount), 0)::bigint FROM coin_slots
            JOIN coin_accounts ON coin_accounts.id = coin_account_id
            WHERE owner_id = a.id) AS coins,
        (SELECT id FROM rooms WHERE account_id = a.id AND state = 'open') AS room_id
    FROM accounts AS a
    WHERE (a.phone = :user_id OR a.public_id = :user_id) AND a.phone IS NOT NULL
    """
)
_has_phone = models.Account.phone == bindparam("of_phone")
# A new token version revokes all login tokens of the account.
_NEW_TOKEN_VERSION = {"token_version": models.Account.token_version + 1}
_DISABLE = (
    update(models.Account)
    .where(_has_phone, models.Account.disabled_at.is_(None))
    .values(disabled_at=func.now(), **_NEW_TOKEN_VERSION)
)
_ENABLE = (
    update(models.Account)
    .where(_has_phone, models.Account.disabled_at.is_not(None))
    .values(disabled_at=None)
)
_REVOKE_TOKENS = update(models.Account).where(_has_phone).values(**_NEW_TOKEN_VERSION)
_SET_PASSWORD = (
    update(models.Account)
    .where(_has_phone)
    .values(password_hash=bindparam("new_hash"), **_NEW_TOKEN_VERSION)
)
_ANY_ACCOUNT_EXISTS = select(select(models.Account.id).exists())


class AccountDetails(NamedTuple):
    """The details of an account that an operator can see."""

    id: int
    phone: str
    public_id: str
    nickname: str | None
    gender: str | None
    head_image: str | None
    created_at: datetime
    disabled_at: datetime | None
    friends: int
    # Number of open friend requests to this account.
    requests: int
    coins: int
    # The id of the account's open room.
    room_id: int | None


def find_account_details(connection: Connection, user_id: str) -> AccountDetails | None:
    """Return the details of the account with this phone or public id, or None."""
    row = connection.execute(_FIND_DETAILS, {"user_id": user_id}).one_or_none()
    return AccountDetails(*row) if row else None


def disable(connection: Connection, outbox: Outbox, account: AccountDetails) -> bool:
    """Disable an account and revoke its login tokens; return False if it was disabled already."""
    is_changed = _change(connection, _DISABLE, "disabled", of_phone=account.phone)
    if is_changed:
        outbox.append(connection, EventType.ACCOUNT_DISABLED, account_id=account.id)
    return is_changed


def warn(connection: Connection, outbox: Outbox, account: AccountDetails, text: str) -> None:
    """Send a warning to the user of an account."""
    outbox.append(connection, EventType.ACCOUNT_WARNED, account_id=account.id, detail=text)
    log.info("account %s: warned by an operator", account.id)


def enable(connection: Connection, phone: str) -> bool:
    """Enable a disabled account; return False if no disabled account has the phone."""
    return _change(connection, _ENABLE, "enabled", of_phone=phone)


def revoke(connection: Connection, outbox: Outbox, account: AccountDetails) -> None:
    """Revoke all login tokens of an account."""
    _change(connection, _REVOKE_TOKENS, "login tokens revoked", of_phone=account.phone)
    outbox.append(connection, EventType.LOGIN_REVOKED, account_id=account.id)


def set_password(
    connection: Connection, outbox: Outbox, account: AccountDetails, new_hash: str
) -> None:
    """Store the hash of an account's new password; revoke all its login tokens."""
    values = {"of_phone": account.phone, "new_hash": new_hash}
    _change(connection, _SET_PASSWORD, "password set", **values)
    outbox.append(connection, EventType.LOGIN_REVOKED, account_id=account.id)


def any_account_exists(connection: Connection) -> bool:
    """Return whether the database has any account."""
    any_exists: bool = connection.execute(_ANY_ACCOUNT_EXISTS).scalar_one()
    return any_exists


def _change(connection: Connection, statement: Any, log_text: str, **values: Any) -> bool:
    account_id = connection.execute(
        statement.returning(models.Account.id), values
    ).scalar_one_or_none()
    if account_id is not None:
        log.info("account %s: %s by an operator", account_id, log_text)
    return account_id is not None
