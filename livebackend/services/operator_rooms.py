"""Rooms: queries for operators."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from livebackend import models

_DETAILS = (
    select(
        models.Room.id,
        models.Room.account_id,
        models.Account.phone,
        models.Account.nickname,
        models.Room.title,
        models.Room.state,
        models.Room.started_at,
        models.Room.disabled_at,
    )
    .join(models.Account, models.Account.id == models.Room.account_id)
    .order_by(models.Room.started_at.desc(), models.Room.id.desc())
)
_NOT_CLOSED = _DETAILS.where(models.Room.state != "closed").limit(bindparam("most"))
_BY_ID = _DETAILS.where(models.Room.id == bindparam("room_id"))
_COUNT_LIVE = select(func.count()).where(models.room_is_open)


class Shown(NamedTuple):
    """The details of a room that an operator can see."""

    id: int
    account_id: int
    phone: str | None
    nickname: str | None
    title: str | None
    # `opening`, `open` or `closed`.
    state: str
    started_at: datetime
    # When the provider confirmed that the stream accepts no publisher.
    disabled_at: datetime | None


def listing(connection: Connection, *, most: int) -> list[Shown]:
    """Return up to `most` rooms that are not closed, newest first."""
    return [Shown(*row) for row in connection.execute(_NOT_CLOSED, {"most": most})]


def find(connection: Connection, room_id: int) -> Shown | None:
    """Return a room in any state, or None."""
    row = connection.execute(_BY_ID, {"room_id": room_id}).one_or_none()
    return Shown(*row) if row else None


def count_live(connection: Connection) -> int:
    """Return the number of live rooms."""
    number: int = connection.execute(_COUNT_LIVE).scalar_one()
    return number
