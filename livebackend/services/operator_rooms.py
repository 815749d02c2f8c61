"""Rooms: queries for operators."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from livebackend import models

_ROOM_DETAILS = (
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
_ROOMS_NOT_CLOSED = _ROOM_DETAILS.where(models.Room.state != "closed").limit(bindparam("limit"))
_ROOM_BY_ID = _ROOM_DETAILS.where(models.Room.id == bindparam("room_id"))
_COUNT_OPEN_ROOMS = select(func.count()).where(models.room_is_open)


class RoomDetails(NamedTuple):
    """The details of a room that an operator can see."""

    id: int
    account_id: int
    phone: str | None
    nickname: str | None
    title: str | None
    # The state is `opening`, `open` or `closed`.
    state: str
    started_at: datetime
    # The time at which the stream provider disabled the stream; None before.
    disabled_at: datetime | None


def list_active_rooms(connection: Connection, *, limit: int) -> list[RoomDetails]:
    """Return up to `limit` rooms that are not closed, newest first."""
    return [RoomDetails(*row) for row in connection.execute(_ROOMS_NOT_CLOSED, {"limit": limit})]


def find_room(connection: Connection, room_id: int) -> RoomDetails | None:
    """Return the room with this id, in any state, or None."""
    row = connection.execute(_ROOM_BY_ID, {"room_id": room_id}).one_or_none()
    return RoomDetails(*row) if row else None


def count_open_rooms(connection: Connection) -> int:
    """Return the number of rooms in the state `open`: their hosts are live."""
    room_count: int = connection.execute(_COUNT_OPEN_ROOMS).scalar_one()
    return room_count
