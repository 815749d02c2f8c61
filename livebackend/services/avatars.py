"""Avatars: upload of pictures, assignment to accounts, and deletion."""

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, BinaryIO

from sqlalchemy import (
    Connection,
    Interval,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from livebackend import models
from livebackend.core.errors import (
    CommitOutcomeUnknown,
    EmptyPicture,
    InvalidPicture,
    PictureNotStored,
    PictureTooLarge,
)
from livebackend.database.engine import Database
from livebackend.storage.protocol import InvalidImage, PictureStore, StorageFailed, StoredPicture

log = logging.getLogger(__name__)

_BATCH_SIZE = 100

_INSERT_PICTURE = insert(models.Picture).values(location=bindparam("location"))
_PICTURES_IN_FOLDER = text(
    "SELECT location FROM pictures"
    " WHERE split_part(location, '/', -2) = :folder AND deleted_at IS NULL"
)
_CLAIM_PICTURE = (
    update(models.Picture)
    .where(
        models.Picture.location == bindparam("of_location"),
        models.Picture.account_id.is_(None),
        models.Picture.deleted_at.is_(None),
    )
    .values(account_id=bindparam("owner"))
)
_MARK_DELETED = (
    update(models.Picture)
    .values(account_id=None, deleted_at=func.now())
    .returning(models.Picture.location)
)
_MARK_PICTURE_DELETED = _MARK_DELETED.where(models.Picture.location == bindparam("of_location"))
_MARK_PICTURES_OF_ACCOUNT_DELETED = _MARK_DELETED.where(
    models.Picture.account_id == bindparam("owner"),
    models.Picture.location != bindparam("excluded"),
)
_MARK_UNUSED_PICTURES_DELETED = _MARK_DELETED.where(
    models.Picture.id.in_(
        select(models.Picture.id)
        .where(
            models.Picture.account_id.is_(None),
            models.Picture.deleted_at.is_(None),
            models.Picture.created_at < func.now() - bindparam("age", type_=Interval),
        )
        .order_by(models.Picture.created_at)
        .limit(_BATCH_SIZE)
        .with_for_update(skip_locked=True)
    )
)
_DELETED_PICTURES = (
    select(models.Picture.id, models.Picture.location)
    .where(models.Picture.deleted_at.is_not(None), models.Picture.id > bindparam("after"))
    .order_by(models.Picture.id)
    .limit(_BATCH_SIZE)
)
_DELETE_ROWS = delete(models.Picture).where(
    models.Picture.location.in_(bindparam("locations", expanding=True)),
    models.Picture.deleted_at.is_not(None),
)


class Avatars:
    """Stores pictures; deletes unused pictures that are older than `unused_ttl`.

    A picture's row is inserted before its file is written, and deleted after its file. So no file
    is without a row: `delete_unused` deletes the file of an interrupted upload, and repeats a
    deletion that failed.
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
                self._database.execute_one(_MARK_PICTURE_DELETED, of_location=location)
            self.remove(inserted_locations)
            raise PictureNotStored from error

    def find(self, folder: str, name: str) -> StoredPicture | None:
        """Return the file of `/pictures/<folder>/<name>`, or None if it has no row."""
        locations = self._database.run_autocommit(
            lambda connection: (
                connection.execute(_PICTURES_IN_FOLDER, {"folder": folder}).scalars().all()
            )
        )
        if any(location.endswith(f"/{folder}/{name}") for location in locations):
            return self._store.find(folder, name)
        return None

    def claim(self, connection: Connection, *, location: str, account_id: int) -> bool:
        """Assign an unused picture to an account.

        Returns False if there is no unused picture at `location`.
        """
        result = connection.execute(_CLAIM_PICTURE, {"of_location": location, "owner": account_id})
        return result.rowcount == 1

    def release(
        self, connection: Connection, account_id: int, *, excluded_location: str = ""
    ) -> list[str]:
        """Mark an account's pictures as deleted, except the one at `excluded_location`.

        They are not served after the commit. Returns their locations: pass them to `remove` after
        the commit.
        """
        result = connection.execute(
            _MARK_PICTURES_OF_ACCOUNT_DELETED, {"owner": account_id, "excluded": excluded_location}
        )
        return list(result.scalars())

    def remove(self, locations: Iterable[str]) -> None:
        """Delete the files, then the rows, of pictures that are marked as deleted.

        If this fails, housekeeping repeats it.
        """
        deleted_locations = []
        for location in locations:
            try:
                self._store.remove(location)
            except StorageFailed as error:
                log.error("pictures: a file cannot be deleted, housekeeping will retry: %s", error)
            else:
                deleted_locations.append(location)
        if not deleted_locations:
            return
        # The request that marked the pictures has succeeded, so an error of this statement must not
        # fail it.
        try:
            self._database.execute_one(_DELETE_ROWS, locations=deleted_locations)
        except (SQLAlchemyError, CommitOutcomeUnknown) as error:
            log.error(
                "pictures: rows cannot be deleted, housekeeping will retry: %s",
                type(error).__name__,
            )

    def delete_unused(self) -> int:
        """Delete unused pictures older than `unused_ttl`; repeat failed deletions.

        Returns the number of these pictures.
        """
        values = {"age": self._unused_ttl}
        while self._database.run(
            lambda connection: connection.execute(_MARK_UNUSED_PICTURES_DELETED, values).all()
        ):
            pass
        deleted_count = last_id = 0
        # The id continues after a batch, so that pictures whose deletion fails are tried once.
        while rows := self._database.run(partial(_next_deleted_pictures, after_id=last_id)):
            self.remove(row.location for row in rows)
            deleted_count += len(rows)
            last_id = rows[-1].id
        return deleted_count


def _next_deleted_pictures(connection: Connection, *, after_id: int) -> Sequence[Any]:
    return connection.execute(_DELETED_PICTURES, {"after": after_id}).all()
