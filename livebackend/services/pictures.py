"""Pictures: keeping one, and naming it as somebody's avatar."""

import logging
from typing import BinaryIO

from sqlalchemy import Connection, bindparam, insert, update
from sqlalchemy.exc import SQLAlchemyError

from livebackend.db import Database
from livebackend.gateways.pictures import Kept, NotKept, PictureStore
from livebackend.models import pictures
from livebackend.results import Failure, Reason

log = logging.getLogger(__name__)

_ADD = insert(pictures).values(location=bindparam("location"))
_CLAIM = (
    update(pictures)
    .where(pictures.c.location == bindparam("of_location"), pictures.c.account_id.is_(None))
    .values(account_id=bindparam("owner"))
)


def claim(connection: Connection, *, location: str, account_id: int) -> bool:
    """Makes an uploaded picture an account's avatar; False if it is none that is free."""
    claimed = connection.execute(_CLAIM, {"of_location": location, "owner": account_id})
    return claimed.rowcount == 1


class Pictures:
    """Keeps pictures of up to `bytes_max`. A file and its row are there both or neither."""

    def __init__(self, database: Database, store: PictureStore, *, bytes_max: int) -> None:
        self._database = database
        self._store = store
        self._bytes_max = bytes_max

    def keep(self, filename: str, content: BinaryIO, *, size: int) -> str:
        """Keeps a picture; returns its location.

        Fails with: the refusal code, for an empty file, one over `bytes_max`, or a full disk.
        """
        if size == 0:
            raise Failure(None, "img", Reason.MISSING)
        if size > self._bytes_max:
            raise Failure(None, "img", Reason.TOO_LARGE)
        try:
            location = self._store.keep(filename, content)
        except NotKept as error:
            log.error("a picture was not kept: %s", error)
            raise Failure(None, "img", Reason.NOT_KEPT) from error
        try:
            self._database.run(
                lambda connection: connection.execute(_ADD, {"location": location}).rowcount
            )
        except SQLAlchemyError:
            self._store.remove(location)
            raise
        return location

    def find(self, folder: str, name: str) -> Kept | None:
        """The file behind a picture's URL, if there is one."""
        return self._store.find(folder, name)
