"""Rooms as an operator sees them."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from livebackend import models

_SHOWN = (
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
_LIVE = _SHOWN.where(models.Room.state != "closed").limit(bindparam("most"))
_ROOM = _SHOWN.where(models.Room.id == bindparam("room_id"))
_COUNT_LIVE = select(func.count()).where(models.room_is_open)


class Shown(NamedTuple):
    """All that an operator is shown of a room."""

    id: int
    account_id: int
    phone: str | None
    nickname: str | None
    title: str | None
    # opening, open or closed
    state: str
    started_at: datetime
    # When the provider confirmed that the stream takes no publisher any more.
    disabled_at: datetime | None


def listing(connection: Connection, *, most: int) -> list[Shown]:
    """The rooms that are not closed, the latest first, and no more than `most`."""
    return [Shown(*row) for row in connection.execute(_LIVE, {"most": most})]


def find(connection: Connection, room_id: int) -> Shown | None:
    """A room, whatever its state."""
    row = connection.execute(_ROOM, {"room_id": room_id}).one_or_none()
    return Shown(*row) if row else None


def count_live(connection: Connection) -> int:
    """How many are live now."""
    live: int = connection.execute(_COUNT_LIVE).scalar_one()
    return live
