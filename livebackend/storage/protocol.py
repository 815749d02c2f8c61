"""The protocol of picture storage."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable


class NotKept(Exception):
    """The picture could not be stored; no file remains."""


class NotAPicture(Exception):
    """The upload is not a picture in an accepted format; no file remains."""


class Kept(NamedTuple):
    """A stored file and its media type, which is None if the file is not a picture."""

    path: Path
    media_type: str | None


Announce = Callable[[str], None]


@runtime_checkable
class PictureStore(Protocol):
    """Storage of uploaded pictures."""

    def keep(self, filename: str, content: BinaryIO, announce: Announce) -> str:
        """Store a picture; return its location, at most 255 characters.

        `announce` is called with the location before a file is written. Raises NotAPicture and
        NotKept.
        """

    def remove(self, location: str) -> None:
        """Delete the picture at this location, if it exists."""

    def find(self, folder: str, name: str) -> Kept | None:
        """Return the file for `/pictures/<folder>/<name>`, or None."""
