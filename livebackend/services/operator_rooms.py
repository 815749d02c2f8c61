"""Rooms as an operator sees them."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from livebackend.models import accounts, room_is_open, rooms

_SHOWN = (
    select(
        rooms.c.id,
        rooms.c.account_id,
        accounts.c.phone,
        accounts.c.nickname,
        rooms.c.title,
        rooms.c.state,
        rooms.c.started_at,
        rooms.c.disabled_at,
    )
    .join(accounts, accounts.c.id == rooms.c.account_id)
    .order_by(rooms.c.started_at.desc(), rooms.c.id.desc())
)
_LIVE = _SHOWN.where(rooms.c.state != "closed").limit(bindparam("most"))
_ROOM = _SHOWN.where(rooms.c.id == bindparam("room_id"))
_COUNT_LIVE = select(func.count()).where(room_is_open)


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
