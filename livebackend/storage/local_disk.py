"""Storage of pictures on the local disk, without re-encoding."""

import os
import re
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO

from livebackend.core.private_files import make_private_folder, open_private
from livebackend.storage.protocol import OnLocationAssigned, StorageFailed, StoredPicture

# The maximum length of a location in the database.
_MAX_LOCATION_LENGTH = 255
# The maximum length of a file name. The limit of common file systems is 255 bytes.
_MAX_NAME_BYTES = 200
_FOLDER_NAME_PATTERN = re.compile("[0-9a-f]{32}")

# The first bytes of each supported format, and its media type.
_SIGNATURE_PATTERNS = (
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
)


class PictureFiles:
    """Picture files on disk, each in its own folder: `<root>/<random>/<name>`."""

    def __init__(self, root: Path, *, min_free_bytes: int) -> None:
        self._root = root.absolute()
        self._min_free_bytes = min_free_bytes

    def write(self, folder: str, name: str, content: BinaryIO) -> None:
        """Create the folder and write the file. Raises StorageFailed."""
        path = self._root / folder / name
        # The file is written under a temporary name, so that no incomplete picture is served. The
        # name of a picture never begins with a dot, so it cannot equal the temporary name.
        temporary_path = path.with_name(".part")
        try:
            make_private_folder(self._root)
            path.parent.mkdir(mode=0o700)
            self._check_free_space()
            with open(temporary_path, "wb", opener=open_private) as file:
                shutil.copyfileobj(content, file)
                file.flush()
                os.fsync(file.fileno())
            temporary_path.rename(path)
            _sync_folder(path.parent)
        except OSError as error:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise StorageFailed(str(error)) from error

    def _check_free_space(self) -> None:
        free_bytes = shutil.disk_usage(self._root).free
        if free_bytes < self._min_free_bytes:
            raise OSError(
                f"the disk is nearly full: {free_bytes} bytes free,"
                f" pictures.min_free_disk_bytes requires {self._min_free_bytes}"
            )

    def remove(self, folder: str) -> None:
        """Delete a picture's folder and file, if they exist. Raises StorageFailed."""
        if not _FOLDER_NAME_PATTERN.fullmatch(folder):
            return
        try:
            shutil.rmtree(self._root / folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            # Without the root, the file system of the pictures may not be mounted.
            if not self._root.exists():
                raise StorageFailed("the folder of the pictures is missing") from error
        except OSError as error:
            raise StorageFailed(error.strerror) from error

    def find(self, folder: str, name: str) -> StoredPicture | None:
        """Return the stored picture with this folder and name, or None."""
        path = self._root / folder / name
        if not _FOLDER_NAME_PATTERN.fullmatch(folder) or name != _base_name(name):
            return None
        try:
            with path.open("rb") as file:
                return StoredPicture(path, media_type(file.read(16)))
        except OSError:
            return None


class OriginalPictureStore:
    """Stores files unchanged, under a cleaned name. The location is the absolute path."""

    def __init__(self, root: Path, *, min_free_bytes: int) -> None:
        self._root = root.absolute()
        self._files = PictureFiles(root, min_free_bytes=min_free_bytes)
        self.find = self._files.find

    def save(
        self, filename: str, content: BinaryIO, on_location_assigned: OnLocationAssigned
    ) -> str:
        folder = new_folder_name()
        name = self._clean_name(
            filename, max_length=_MAX_LOCATION_LENGTH - len(str(self._root / folder)) - 1
        )
        location = str(self._root / folder / name)
        on_location_assigned(location)
        self._files.write(folder, name, content)
        return location

    def remove(self, location: str) -> None:
        self._files.remove(Path(location).parent.name)

    def _clean_name(self, filename: str, *, max_length: int) -> str:
        """Return a safe file name; if it is too long, shorten it but not its extension."""
        name = _base_name(filename) or "picture"
        stem, dot, extension = name.rpartition(".")
        extension = (dot + extension)[:10] if stem else ""
        stem = (stem or name)[:_MAX_NAME_BYTES]
        while len(stem) > 1 and (
            len(stem + extension) > max_length or len((stem + extension).encode()) > _MAX_NAME_BYTES
        ):
            stem = stem[:-1]
        return stem + extension


def new_folder_name() -> str:
    """Return a random folder name that cannot be guessed."""
    return secrets.token_hex(16)


def _sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that its entries survive a crash of the machine."""
    folder_descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_descriptor)
    finally:
        os.close(folder_descriptor)


def _base_name(filename: str) -> str:
    """Return the last part of a Unix or Windows path, without unsafe characters."""
    base_name = re.split(r"[/\\]", filename)[-1]
    printable_name = "".join(character for character in base_name if character.isprintable())
    return printable_name.strip().lstrip(".").strip()


def media_type(first_bytes: bytes) -> str | None:
    """Return a picture's media type from its first 16 bytes, or None if unsupported."""
    for signature, name in _SIGNATURE_PATTERNS:
        if signature.match(first_bytes):
            return name
    return None
