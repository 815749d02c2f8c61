"""The protocol of picture storage."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable


class StorageFailed(Exception):
    """A picture could not be stored or deleted."""


class InvalidImage(Exception):
    """The upload is not a picture in an accepted format; no file remains."""


class StoredPicture(NamedTuple):
    """A stored file and its media type, which is None if the file is not a picture."""

    path: Path
    media_type: str | None


OnLocationAssigned = Callable[[str], None]


@runtime_checkable
class PictureStore(Protocol):
    """Storage of uploaded pictures."""

    def save(
        self, filename: str, content: BinaryIO, on_location_assigned: OnLocationAssigned
    ) -> str:
        """Store a picture; return its location, at most 255 characters.

        `on_location_assigned` is called with the location before a file is written. Raises
        InvalidImage and StorageFailed.
        """

    def remove(self, location: str) -> None:
        """Delete the picture at this location, if it exists. Raises StorageFailed."""

    def find(self, folder: str, name: str) -> StoredPicture | None:
        """Return the file for `/pictures/<folder>/<name>`, or None."""
