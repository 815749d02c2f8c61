"""Accounts as an operator sees and changes them."""

import logging
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, select, text, update

from livebackend import models

log = logging.getLogger(__name__)

_FIND = text(
    """
    SELECT a.id, a.phone, a.nickname, a.gender, a.head_image, a.created_at, a.disabled_at,
        (SELECT count(*) FROM friendships WHERE account_id = a.id) AS friends,
        (SELECT count(*) FROM friend_requests
            WHERE addressee_id = a.id AND state = 'open') AS requests,
        (SELECT coalesce(sum(amount), 0)::bigint FROM coin_slots
            JOIN coin_accounts ON coin_accounts.id = coin_account_id
            WHERE owner_id = a.id) AS coins,
        (SELECT id FROM rooms WHERE account_id = a.id AND state = 'open') AS room_id
    FROM accounts AS a WHERE a.phone = :phone
    """
)
_this = models.Account.phone == bindparam("of_phone")
# Raised by all three: the tokens that were given out before are worth nothing from then on.
_NEW_VERSION = {"token_version": models.Account.token_version + 1}
_DISABLE = (
    update(models.Account)
    .where(_this, models.Account.disabled_at.is_(None))
    .values(disabled_at=func.now(), **_NEW_VERSION)
)
_ENABLE = (
    update(models.Account)
    .where(_this, models.Account.disabled_at.is_not(None))
    .values(disabled_at=None)
)
_REVOKE = update(models.Account).where(_this).values(**_NEW_VERSION)
_SET_PASSWORD = (
    update(models.Account).where(_this).values(password_hash=bindparam("new_hash"), **_NEW_VERSION)
)
_ANY = select(select(models.Account.id).exists())


class Overview(NamedTuple):
    """All that an operator is shown of an account."""

    id: int
    phone: str
    nickname: str | None
    gender: str | None
    head_image: str | None
    created_at: datetime
    disabled_at: datetime | None
    friends: int
    # Open ones that wait for this account's answer.
    requests: int
    coins: int
    # The room in which it is live.
    room_id: int | None


def overview(connection: Connection, phone: str) -> Overview | None:
    """What there is to know of the account with a phone; None for nobody's."""
    row = connection.execute(_FIND, {"phone": phone}).one_or_none()
    return Overview(*row) if row else None


def disable(connection: Connection, phone: str) -> bool:
    """Keeps an account from logging in, and ends its tokens; False if it is disabled already."""
    return _change(connection, _DISABLE, "disabled", of_phone=phone)


def enable(connection: Connection, phone: str) -> bool:
    """Lets an account log in again; False if it is not disabled."""
    return _change(connection, _ENABLE, "enabled", of_phone=phone)


def revoke(connection: Connection, phone: str) -> bool:
    """Ends every login token of an account; False for nobody's phone."""
    return _change(connection, _REVOKE, "logged out everywhere", of_phone=phone)


def set_password(connection: Connection, phone: str, new_hash: str) -> bool:
    """Sets a password by its hash, and ends every login token; False for nobody's phone."""
    values = {"of_phone": phone, "new_hash": new_hash}
    return _change(connection, _SET_PASSWORD, "given a new password", **values)


def are_there_any(connection: Connection) -> bool:
    """Whether anybody has ever registered."""
    there: bool = connection.execute(_ANY).scalar_one()
    return there


def _change(connection: Connection, statement: Any, what: str, **values: Any) -> bool:
    changed = connection.execute(
        statement.returning(models.Account.id), values
    ).scalar_one_or_none()
    if changed is not None:
        log.info("account %s is %s by an operator", changed, what)
    return changed is not None
