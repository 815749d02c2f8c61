"""Avatars: upload of pictures, assignment to accounts, and deletion."""

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
from livebackend.storage.protocol import InvalidImage, PictureStore, StorageFailed, StoredPicture

log = logging.getLogger(__name__)

_BATCH_SIZE = 100

_INSERT_PICTURE = insert(models.Picture).values(location=bindparam("location"))
_DELETE_PICTURE = delete(models.Picture).where(models.Picture.location == bindparam("location"))
_CLAIM_PICTURE = (
    update(models.Picture)
    .where(models.Picture.location == bindparam("of_location"), models.Picture.account_id.is_(None))
    .values(account_id=bindparam("owner"))
)
_DELETE_PICTURES_OF_ACCOUNT = (
    delete(models.Picture)
    .where(
        models.Picture.account_id == bindparam("owner"),
        models.Picture.location != bindparam("excluded"),
    )
    .returning(models.Picture.location)
)
_DELETE_UNUSED_PICTURES = (
    delete(models.Picture)
    .where(
        models.Picture.id.in_(
            select(models.Picture.id)
            .where(
                models.Picture.account_id.is_(None),
                models.Picture.created_at < func.now() - bindparam("age", type_=Interval),
            )
            .order_by(models.Picture.created_at)
            .limit(_BATCH_SIZE)
            .with_for_update(skip_locked=True)
        )
    )
    .returning(models.Picture.location)
)


class Avatars:
    """Stores pictures; deletes unused pictures that are older than `unused_ttl`.

    A picture's row is inserted before its file is written, so that `delete_unused` deletes the file
    of an interrupted upload.
    """

    def __init__(
        self,
        database: Database,
        store: PictureStore,
        *,
        max_bytes: int,
        unused_ttl: timedelta,
    ) -> None:
        self._database = database
        self._store = store
        self._max_bytes = max_bytes
        self._unused_ttl = unused_ttl

    def save(self, filename: str, content: BinaryIO, *, size: int) -> str:
        """Store a picture; return its location.

        Raises EmptyPicture, PictureTooLarge, InvalidPicture, and PictureNotStored (the disk is full
        or nearly full, or too many pictures are being re-encoded).
        """
        if size == 0 or not filename:
            raise EmptyPicture
        if size > self._max_bytes:
            raise PictureTooLarge(maximum=self._max_bytes)
        inserted_locations: list[str] = []

        def insert_row(location: str) -> None:
            self._database.execute_one(_INSERT_PICTURE, location=location)
            inserted_locations.append(location)

        try:
            return self._store.save(filename, content, insert_row)
        except InvalidImage as error:
            raise InvalidPicture from error
        except StorageFailed as error:
            log.error("upload: storage of the picture failed: %s", error)
            for location in inserted_locations:
                self._database.execute_one(_DELETE_PICTURE, location=location)
            raise PictureNotStored from error

    def find(self, folder: str, name: str) -> StoredPicture | None:
        """Return the file of `/pictures/<folder>/<name>`, or None if it does not exist."""
        return self._store.find(folder, name)

    def claim(self, connection: Connection, *, location: str, account_id: int) -> bool:
        """Assign an unused picture to an account.

        Returns False if there is no unused picture at `location`.
        """
        result = connection.execute(_CLAIM_PICTURE, {"of_location": location, "owner": account_id})
        return result.rowcount == 1

    def release(
        self, connection: Connection, account_id: int, *, excluded_location: str = ""
    ) -> list[str]:
        """Delete the rows of an account's pictures, except the one at `excluded_location`.

        Returns the locations of the deleted rows: pass them to `remove` after the commit.
        """
        result = connection.execute(
            _DELETE_PICTURES_OF_ACCOUNT, {"owner": account_id, "excluded": excluded_location}
        )
        return list(result.scalars())

    def remove(self, locations: Iterable[str]) -> None:
        """Delete picture files; call this after the rows are deleted and committed."""
        for location in locations:
            self._store.remove(location)

    def delete_unused(self) -> int:
        """Delete unused pictures that are older than `unused_ttl`; return their number."""

        def delete_batch(connection: Connection) -> list[str]:
            return list(
                connection.execute(_DELETE_UNUSED_PICTURES, {"age": self._unused_ttl}).scalars()
            )

        deleted_count = 0
        while locations := self._database.run(delete_batch):
            self.remove(locations)
            deleted_count += len(locations)
        return deleted_count
