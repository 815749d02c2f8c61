"""Pictures on the local disk, as they were sent."""

import os
import re
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO

from livebackend.storage.protocol import Announce, Kept, NotKept

# The location must fit into `headImage`, and the name into what a file system allows.
_LOCATION_MAX = 255
_NAME_BYTES_MAX = 200
_FOLDER = re.compile("[0-9a-f]{32}")

# What the first bytes of a picture look like.
_SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
)


class PictureFolders:
    """Files on disk, each in a folder of its own: `<root>/<random>/<name>`."""

    def __init__(self, root: Path, *, free_bytes_min: int) -> None:
        self._root = root.absolute()
        self._free_bytes_min = free_bytes_min

    def write(self, folder: str, name: str, content: BinaryIO) -> None:
        """Writes a file into a folder of that name, which is new. Raises NotKept."""
        path = self._root / folder / name
        # Under another name until it is whole, so that nobody is ever served half a picture. No
        # name begins with a dot.
        part = path.with_name(".part")
        try:
            path.parent.mkdir(parents=True)
            self._check_room()
            with part.open("wb") as file:
                shutil.copyfileobj(content, file)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
            _sync(path.parent)
        except OSError as error:
            self.remove(folder)
            raise NotKept(str(error)) from error

    def _check_room(self) -> None:
        if shutil.disk_usage(self._root).free < self._free_bytes_min:
            raise OSError("the disk is nearly full")

    def remove(self, folder: str) -> None:
        if _FOLDER.fullmatch(folder):
            shutil.rmtree(self._root / folder, ignore_errors=True)

    def find(self, folder: str, name: str) -> Kept | None:
        path = self._root / folder / name
        if not _FOLDER.fullmatch(folder) or name != _base_name(name):
            return None
        try:
            with path.open("rb") as file:
                return Kept(path, media_type(file.read(16)))
        except OSError:
            return None


class PicturesAsSent:
    """Keeps each file's bytes and (cleaned) name. The location is the absolute path."""

    def __init__(self, root: Path, *, free_bytes_min: int) -> None:
        self._root = root.absolute()
        self._folders = PictureFolders(root, free_bytes_min=free_bytes_min)
        self.find = self._folders.find

    def keep(self, filename: str, content: BinaryIO, announce: Announce) -> str:
        folder = new_folder()
        name = self._clean(filename, room=_LOCATION_MAX - len(str(self._root / folder)) - 1)
        location = str(self._root / folder / name)
        announce(location)
        self._folders.write(folder, name, content)
        return location

    def remove(self, location: str) -> None:
        self._folders.remove(Path(location).parent.name)

    def _clean(self, filename: str, *, room: int) -> str:
        name = _base_name(filename) or "picture"
        stem, dot, ending = name.rpartition(".")
        ending = (dot + ending)[:10] if stem else ""
        stem = stem or name
        while len(stem) > 1 and (
            len(stem + ending) > room or len((stem + ending).encode()) > _NAME_BYTES_MAX
        ):
            stem = stem[:-1]
        return stem + ending


def new_folder() -> str:
    """A name that nobody guesses."""
    return secrets.token_hex(16)


def _sync(folder: Path) -> None:
    """Makes a new name in a folder outlast a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _base_name(filename: str) -> str:
    """The last part of a path of any system, without what a file's name had better not hold."""
    last = re.split(r"[/\\]", filename)[-1]
    printable = "".join(character for character in last if character.isprintable())
    return printable.strip().lstrip(".").strip()


def media_type(head: bytes) -> str | None:
    """The type of the picture that begins with these 16 bytes, or None."""
    for signature, found in _SIGNATURES:
        if signature.match(head):
            return found
    return None
