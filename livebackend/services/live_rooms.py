"""The list of all who are live, in pages that stay right while rooms come and go."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, select, tuple_

from livebackend import models
from livebackend.services.accounts import PROFILE, Profile

_LIVE = (
    select(
        *PROFILE, models.Room.title, models.Room.play_urls, models.Room.started_at, models.Room.id
    )
    .join(models.Account, models.Account.id == models.Room.account_id)
    .where(models.room_is_open)
    .order_by(models.Room.started_at.desc(), models.Room.id.desc())
    .limit(bindparam("most"))
)
_LIVE_AFTER = _LIVE.where(
    tuple_(models.Room.started_at, models.Room.id) < tuple_(bindparam("at"), bindparam("room_id"))
)


class Place(NamedTuple):
    """A position in the list: the next page begins after it."""

    started_at: datetime
    room_id: int


class LiveRoom(NamedTuple):
    """A room as anybody may see it."""

    profile: Profile
    title: str | None
    play_urls: dict[str, str | None]
    place: Place


class LiveRooms:
    """The list of all open rooms."""

    def list(self, connection: Connection, *, after: Place | None, limit: int) -> list[LiveRoom]:
        """Return the latest rooms first: from the first one on, or those after a position."""
        values: dict[str, Any] = {"most": limit}
        if after:
            values |= {"at": after.started_at, "room_id": after.room_id}
        rows = connection.execute(_LIVE_AFTER if after else _LIVE, values)
        return [
            LiveRoom(Profile(*row[:4]), row.title, row.play_urls, Place(row.started_at, row.id))
            for row in rows
        ]
