"""Checks of the port, the database, the data folder and the clock at the start."""

import errno
import logging
import socket
import tempfile
from ipaddress import ip_address
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.config.errors import DatabaseUnavailable, SettingsError
from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated
from livebackend.monitoring.health_checks import (
    CheckFailed,
    check_clock,
    check_connection_limit,
)

log = logging.getLogger(__name__)


_SUBFOLDERS = ("pictures", "hashing")
# A full disk affects only uploads, so it does not prevent the start.
_FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT)


def folder_errors(folder: Path) -> tuple[str, ...]:
    """Return the errors that prevent writing files to the data folder and its subfolders."""
    folders = (folder, *(folder / name for name in _SUBFOLDERS))
    return tuple(f"data.dir: {path} is not writable" for path in folders if not _is_writable(path))


def _is_writable(folder: Path) -> bool:
    """Return whether files can be created in the folder, or in its nearest existing parent.

    A file without a name is created: root has access to a read-only file system, by os.access.
    """
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError as error:
        return error.errno in _FULL_DISK_ERRORS


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


def check_address_is_loopback(host: str) -> None:
    """Raise SettingsError if clients on other machines can reach the address.

    A private address is refused too: behind NAT, the internet can reach it.
    """
    try:
        resolved = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return  # `check_port_is_free` reports the host
    addresses = {ip_address(address.partition("%")[0]) for address in resolved}
    reachable_addresses = sorted(str(address) for address in addresses if not address.is_loopback)
    if reachable_addresses:
        raise SettingsError(
            f"host: clients on other machines can reach {', '.join(reachable_addresses)}, and a few"
            " slow clients can block the server. Use a reverse proxy and set http.trusted_proxies"
            " to its addresses, or set server.allow_direct_clients = true"
        )


def database_errors(
    url: str, *, accepts_missing_migrations: bool, accepts_unavailable: bool
) -> tuple[str, ...]:
    """Return the errors that prevent using the database.

    `accepts_unavailable`: an unreachable database is not an error.
    """
    try:
        database = Database(url, pool_size=1)
    except SettingsError as error:
        return error.errors
    try:
        check_migrated(database, reachable_only=accepts_missing_migrations)
    except DatabaseUnavailable as error:
        return () if accepts_unavailable else error.errors
    except SettingsError as error:
        return error.errors
    finally:
        database.close()
    return ()


def warn_of_connection_limit(database: Database, *, required: int) -> None:
    """Log a warning if PostgreSQL allows too few connections for this server.

    This is no error: a server with little load opens fewer connections, and works.
    """
    try:
        check_connection_limit(database, required=required)
    except CheckFailed as error:
        log.warning("database: %s. %s", error, error.remedy)
    except (DBAPIError, PoolTimeout):
        pass  # the database is unavailable, which is reported elsewhere


def warn_of_clock_skew(database: Database) -> None:
    """Log a warning if this machine's clock differs from PostgreSQL's."""
    try:
        check_clock(database)
    except CheckFailed as error:
        log.warning("clock: %s. %s", error, error.remedy)
