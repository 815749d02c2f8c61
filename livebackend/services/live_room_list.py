"""The list of live rooms, with keyset pagination."""

from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from sqlalchemy import Connection, bindparam, select, tuple_

from livebackend import models
from livebackend.services.accounts import Gender

_PAGE_ROWS = 50

_LIVE_ROOMS = (
    select(
        models.Account.public_id,
        models.Account.nickname,
        models.Account.gender,
        models.Account.head_image,
        models.Room.title,
        models.Room.play_urls,
        models.Room.started_at,
        models.Room.id,
    )
    .join(models.Account, models.Account.id == models.Room.account_id)
    .where(models.room_is_open)
    .order_by(models.Room.started_at.desc(), models.Room.id.desc())
    .limit(bindparam("limit"))
)
_LIVE_ROOMS_AFTER_CURSOR = _LIVE_ROOMS.where(
    tuple_(models.Room.started_at, models.Room.id)
    < tuple_(bindparam("started_at"), bindparam("room_id"))
)


class RoomCursor(NamedTuple):
    """A cursor of the live room list: the next page begins after this room."""

    started_at: datetime
    room_id: int


class PlayUrls(TypedDict):
    """The play URLs of a stream, as the database stores them."""

    rtmp: str | None
    hls: str | None
    hdl: str | None


class LiveRoom(NamedTuple):
    """An entry of the live room list, with the profile of the host.

    All users see the list, so it has the host's public id instead of the phone number.
    """

    public_id: str
    nickname: str | None
    gender: Gender | None
    head_image: str | None
    title: str | None
    play_urls: PlayUrls
    cursor: RoomCursor


class LiveRooms:
    """The list of all open rooms."""

    def list(
        self, connection: Connection, *, after: RoomCursor | None
    ) -> tuple[list[LiveRoom], RoomCursor | None]:
        """Return up to 50 rooms, newest first, and the cursor of the next page, if any.

        `after` is the cursor that the previous page returned.
        """
        # The query selects one row more than a page, to detect whether a next page exists.
        values: dict[str, Any] = {"limit": _PAGE_ROWS + 1}
        if after:
            values |= {"started_at": after.started_at, "room_id": after.room_id}
        rows = connection.execute(_LIVE_ROOMS_AFTER_CURSOR if after else _LIVE_ROOMS, values).all()
        rooms = [
            LiveRoom._make((*row[:6], RoomCursor(row.started_at, row.id)))
            for row in rows[:_PAGE_ROWS]
        ]
        return rooms, rooms[-1].cursor if len(rows) > _PAGE_ROWS else None
