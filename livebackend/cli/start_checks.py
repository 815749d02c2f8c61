"""The checks before the start of the workers, in a process of their own.

The checks need most of the application. In the parent process of the workers, the imported modules
would occupy 60 MB for as long as the server runs.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

import click

from livebackend.cli.ini_logging import setup_logging
from livebackend.config.errors import SettingsError
from livebackend.core.supervised_thread import start_thread

# The process waits until the parent process uses the embedded PostgreSQL too, and ends soon after.
_RELEASE_TIMEOUT_S = 180.0
_END_TIMEOUT_S = 90.0


class ServerOptions(NamedTuple):
    """The settings that the parent process of the workers needs; none is a secret."""

    host: str
    port: int
    workers: int
    bind_workers: bool
    threads: int
    max_connections: int
    backlog: int
    header_timeout_s: int
    max_header_bytes: int
    shutdown_timeout_s: int
    # The data folder of the embedded PostgreSQL; None for another database.
    postgres_folder: Path | None


@contextmanager
def checked_options(ini: Path, options: Mapping[str, str]) -> Iterator[ServerOptions]:
    """Check settings, database and port, run migrations, and yield the options of the server.

    Within the `with` block, an embedded PostgreSQL keeps running. Raises ClickException with the
    message of all errors.
    """
    connection, process_connection = multiprocessing.Pipe()
    # A forked process would inherit locks and threads. A daemon process ends with this process.
    process = multiprocessing.get_context("spawn").Process(
        target=_run_checks, args=(ini, dict(options), process_connection), daemon=True
    )
    with connection:
        with process_connection:
            process.start()
        try:
            # Without a time limit: a migration can take hours.
            result = connection.recv()
        except EOFError:
            process.join(_END_TIMEOUT_S)
            result = f"the checks before the start ended with exit code {process.exitcode}"
        if isinstance(result, str):
            raise click.ClickException(result)
        yield result
    process.join(_END_TIMEOUT_S)
    process.kill()


def _run_checks(ini: Path, options: Mapping[str, str], connection: Connection) -> None:
    # Ctrl-C also reaches the parent process, and ends it. This process then ends too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start_thread("parent watcher", _end_with_parent)
    try:
        setup_logging(ini)
        _check(ini, options, connection)
    except SettingsError as error:
        connection.send(str(error))


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)


def _check(ini: Path, options: Mapping[str, str], connection: Connection) -> None:
    """Send the options of the server; close the database when the other side closes."""
    # The parent process imports this module, but must not import the application.
    from livebackend.cli.ini_file import (  # noqa: PLC0415
        check_section,
        opened_database,
        read_section,
    )
    from livebackend.container import required_connections, worker_count  # noqa: PLC0415
    from livebackend.monitoring.database_gate import DatabaseGate  # noqa: PLC0415
    from livebackend.monitoring.startup_checks import (  # noqa: PLC0415
        check_port_is_free,
        warn_of_connection_limit,
    )

    settings, address = check_section(read_section(ini, options))
    with opened_database(settings) as database:
        DatabaseGate(database, migrates=settings.database_migrate).try_to_open()
        warn_of_connection_limit(database, required=required_connections(settings))
        check_port_is_free(*address)
        is_embedded = settings.database_url.get_secret_value() == "embedded"
        connection.send(
            ServerOptions(
                *address,
                workers=worker_count(settings),
                bind_workers=settings.server_bind_workers,
                threads=settings.server_threads,
                max_connections=settings.server_max_connections,
                backlog=settings.server_backlog,
                header_timeout_s=settings.server_header_timeout_s,
                max_header_bytes=settings.server_max_header_bytes,
                shutdown_timeout_s=settings.server_shutdown_timeout_s,
                postgres_folder=settings.data_dir / "postgres" if is_embedded else None,
            )
        )
        connection.poll(_RELEASE_TIMEOUT_S)
