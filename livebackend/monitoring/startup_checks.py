"""Checks before the start: whether the database and the data folder can be used."""

import os
from pathlib import Path

from livebackend.config.errors import SettingsError
from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated


def folder_errors(folder: Path) -> tuple[str, ...]:
    """Return why no file can be created in the folder; nothing if one can."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return ()
    return (f"var.dir: nothing can be kept in {folder}",)


def database_errors(url: str, *, reachable_only: bool) -> tuple[str, ...]:
    """Return why the database cannot be used; nothing if it can.

    With `reachable_only`, missing migrations are no error.
    """
    try:
        database = Database(url, pool_size=1)
    except SettingsError as error:
        return error.faults
    try:
        check_migrated(database, reachable_only=reachable_only)
    except SettingsError as error:
        return error.faults
    finally:
        database.close()
    return ()
