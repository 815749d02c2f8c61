"""Pictures: keeping one, naming it as somebody's avatar, and throwing it away."""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import BinaryIO

from sqlalchemy import (
    Connection,
    Interval,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from livebackend import models
from livebackend.core.errors import EmptyPicture, InvalidPicture, PictureNotStored, PictureTooLarge
from livebackend.database.engine import Database
from livebackend.storage.protocol import Kept, NotAPicture, NotKept, PictureStore

log = logging.getLogger(__name__)

_SWEPT_AT_ONCE = 100

_ADD = insert(models.Picture).values(location=bindparam("location"))
_FORGET = delete(models.Picture).where(models.Picture.location == bindparam("location"))
_CLAIM = (
    update(models.Picture)
    .where(models.Picture.location == bindparam("of_location"), models.Picture.account_id.is_(None))
    .values(account_id=bindparam("owner"))
)
_DISOWN = (
    delete(models.Picture)
    .where(
        models.Picture.account_id == bindparam("owner"), models.Picture.location != bindparam("but")
    )
    .returning(models.Picture.location)
)
_SWEEP = (
    delete(models.Picture)
    .where(
        models.Picture.id.in_(
            select(models.Picture.id)
            .where(
                models.Picture.account_id.is_(None),
                models.Picture.created_at < func.now() - bindparam("age", type_=Interval),
            )
            .order_by(models.Picture.created_at)
            .limit(_SWEPT_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
    )
    .returning(models.Picture.location)
)


class Pictures:
    """Keeps pictures of up to `bytes_max`, for `unclaimed` if nobody makes them his avatar.

    A row is there before its file, and goes before it: whatever is cut off half-way, no file is
    left that nobody knows of.
    """

    def __init__(
        self,
        database: Database,
        store: PictureStore,
        *,
        bytes_max: int,
        unclaimed: timedelta,
    ) -> None:
        self._database = database
        self._store = store
        self._bytes_max = bytes_max
        self._unclaimed = unclaimed

    def keep(self, filename: str, content: BinaryIO, *, size: int) -> str:
        """Keeps a picture; returns its location.

        Raises EmptyPicture, PictureTooLarge, InvalidPicture, and PictureNotStored if the disk is
        full or nearly full.
        """
        if size == 0 or not filename:
            raise EmptyPicture
        if size > self._bytes_max:
            raise PictureTooLarge
        announced: list[str] = []

        def announce(location: str) -> None:
            self._database.execute_one(_ADD, location=location)
            announced.append(location)

        try:
            return self._store.keep(filename, content, announce)
        except NotAPicture as error:
            raise InvalidPicture from error
        except NotKept as error:
            log.error("a picture was not kept: %s", error)
            for location in announced:
                self._database.execute_one(_FORGET, location=location)
            raise PictureNotStored from error

    def find(self, folder: str, name: str) -> Kept | None:
        """The file behind a picture's URL, if there is one."""
        return self._store.find(folder, name)

    def claim(self, connection: Connection, *, location: str, account_id: int) -> bool:
        """Makes an uploaded picture an account's avatar; False if it is none that is free."""
        claimed = connection.execute(_CLAIM, {"of_location": location, "owner": account_id})
        return claimed.rowcount == 1

    def disown(self, connection: Connection, account_id: int, *, but: str = "") -> list[str]:
        """Forgets an account's pictures but one; returns the others' locations, for `remove`."""
        gone = connection.execute(_DISOWN, {"owner": account_id, "but": but})
        return list(gone.scalars())

    def remove(self, locations: Iterable[str]) -> None:
        """Removes the files of pictures that are forgotten, once that is committed."""
        for location in locations:
            self._store.remove(location)

    def sweep(self) -> int:
        """Throws away the pictures that nobody claimed in time; returns how many."""

        def work(connection: Connection) -> list[str]:
            return list(connection.execute(_SWEEP, {"age": self._unclaimed}).scalars())

        swept = 0
        while gone := self._database.run(work):
            self.remove(gone)
            swept += len(gone)
        return swept
