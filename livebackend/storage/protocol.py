"""The protocol of picture storage."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable


class NotKept(Exception):
    """The picture could not be kept; nothing of it is left."""


class NotAPicture(Exception):
    """What was sent is no picture that the store takes; nothing of it is left."""


class Kept(NamedTuple):
    """A file to serve, and the type of the picture in it; None for what is no picture."""

    path: Path
    media_type: str | None


Announce = Callable[[str], None]


@runtime_checkable
class PictureStore(Protocol):
    def keep(self, filename: str, content: BinaryIO, announce: Announce) -> str:
        """Keeps a picture; returns its location, up to 255 characters.

        `announce` is told the location before anything is on disk. Raises NotAPicture, NotKept.
        """

    def remove(self, location: str) -> None:
        """Removes what `keep` kept at this location."""

    def find(self, folder: str, name: str) -> Kept | None:
        """The file behind `/pictures/<folder>/<name>`."""
