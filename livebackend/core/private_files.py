"""Folders and files that only the user of the server can read."""

import os
from contextlib import suppress
from pathlib import Path

_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


def make_private_folder(folder: Path) -> Path:
    """Make a folder readable only by its owner; create it if it is missing. Return it."""
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    # An earlier release can have created the folder with another mode. The operator decides about a
    # folder of another user, and about a file system without modes, where chmod fails.
    with suppress(OSError):
        folder.chmod(_FOLDER_MODE)
    return folder


def open_private(path: str, flags: int) -> int:
    """Open a file that only its owner can read; an opener for `open`."""
    return os.open(path, flags, _FILE_MODE)
