"""The list of all who are live, in pages that stay right while rooms come and go."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

from sqlalchemy import Connection, bindparam, select, tuple_

from livebackend import models
from livebackend.services.accounts import PROFILE, Profile

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

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
    """A place in the list of all who are live: the next page begins after it."""

    started_at: datetime
    room_id: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `"<microseconds since 1970>,<digits>"`."""
        at, _, room_id = text.partition(",")
        return cls(_EPOCH + timedelta(microseconds=int(at)), int(room_id))

    def __str__(self) -> str:
        return f"{(self.started_at - _EPOCH) // timedelta(microseconds=1)},{self.room_id}"


class LiveRoom(NamedTuple):
    """A room as anybody may see it."""

    profile: Profile
    title: str | None
    play_urls: dict[str, str | None]
    place: Place


def live_rooms(connection: Connection, *, after: Place | None, most: int) -> list[LiveRoom]:
    """`most` of those who are live, the latest started first: from the first, or after a place."""
    values: dict[str, Any] = {"most": most}
    if after:
        values |= {"at": after.started_at, "room_id": after.room_id}
    found = connection.execute(_LIVE_AFTER if after else _LIVE, values)
    return [
        LiveRoom(Profile(*row[:4]), row.title, row.play_urls, Place(row.started_at, row.id))
        for row in found
    ]
