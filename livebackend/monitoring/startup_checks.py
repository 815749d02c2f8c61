"""Checks of the port, the database, the data folder and the clock at the start."""

import logging
import os
import socket
from pathlib import Path

from livebackend.config.errors import SettingsError
from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated
from livebackend.monitoring.health_checks import CheckFailed, check_clock

log = logging.getLogger(__name__)


def folder_errors(folder: Path) -> tuple[str, ...]:
    """Return the errors that prevent writing files to the folder."""
    existing_folder = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if existing_folder.is_dir() and os.access(existing_folder, os.W_OK | os.X_OK):
        return ()
    return (f"data.dir: {folder} is not writable",)


def check_port_is_free(host: str, port: int) -> None:
    """Raise SettingsError if the server cannot listen on the address.

    A worker of `livebackend serve` binds the address with SO_REUSEPORT, which succeeds even if
    another process listens.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"host, port: cannot listen on {host}:{port}: {error.strerror}"
            ) from None


def database_errors(url: str, *, reachable_only: bool) -> tuple[str, ...]:
    """Return the errors that prevent using the database.

    With `reachable_only`, missing migrations are not reported.
    """
    try:
        database = Database(url, pool_size=1)
    except SettingsError as error:
        return error.errors
    try:
        check_migrated(database, reachable_only=reachable_only)
    except SettingsError as error:
        return error.errors
    finally:
        database.close()
    return ()


def warn_of_clock_skew(database: Database) -> None:
    """Log a warning if this machine's clock differs from PostgreSQL's."""
    try:
        check_clock(database)
    except CheckFailed as error:
        log.warning("clock: %s. %s", error, error.remedy)
