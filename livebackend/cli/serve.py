"""`livebackend serve`: run the application in worker processes on one port."""

import logging
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import click
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from livebackend.cli.ini_logging import setup_logging
from livebackend.cli.start_checks import ServerOptions, checked_options
from livebackend.cli.worker import load_app
from livebackend.cli.worker_supervisor import WorkerSupervisor
from livebackend.config.errors import SettingsError
from livebackend.core.cpu_binding import bindings
from livebackend.monitoring.log_queue import write_logs_in_background

log = logging.getLogger(__name__)

# The log records of Granian propagate to the handlers of the ini file.
_GRANIAN_LOGGING = {
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}},
}


@click.command()
@click.argument("ini", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--host", help="Address to listen on; default: `host` in the ini file.")
@click.option("--port", help="Port to listen on; default: `port` in the ini file.")
def serve(ini: Path, host: str | None, port: str | None) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    The server completes open requests before it stops. It starts without a reachable database, and
    responds with 503 until the database is usable. With a wrong setting, it does not start.

    Example: livebackend serve production.ini
    """
    options = {name: value for name, value in {"host": host, "port": port}.items() if value}
    _disable_resource_tracker()
    try:
        setup_logging(ini)
        with ExitStack() as stack:
            with checked_options(ini, options) as server_options:
                stack.enter_context(_embedded_postgres(server_options.postgres_folder))
            _run_workers(ini, options, server_options)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def _disable_resource_tracker() -> None:
    """Prevent multiprocessing's resource tracker, a process that needs 7 MB.

    It removes named semaphores and shared memory of killed processes; the server has none.
    """
    # This process then has the state of a spawned process, whose parent has started the tracker:
    # a file descriptor for the messages to it.
    tracker: Any = resource_tracker._resource_tracker  # noqa: SLF001
    if tracker._fd is None:  # noqa: SLF001
        tracker._fd = os.open(os.devnull, os.O_WRONLY)  # noqa: SLF001


@contextmanager
def _embedded_postgres(folder: Path | None) -> Iterator[None]:
    """Keep the embedded PostgreSQL running until the last worker has ended; the workers share it.

    Raises SettingsError.
    """
    if folder is None:
        yield
        return
    # A server with another database does not need this module and psycopg2.
    from livebackend.development.embedded_postgres import (  # noqa: PLC0415
        EmbeddedPostgres,
        EmbeddedPostgresError,
    )

    postgres = EmbeddedPostgres(folder)
    try:
        postgres.start()
    except EmbeddedPostgresError as error:
        raise SettingsError(f"database.url: {error}") from None
    postgres.restart_if_killed()
    try:
        yield
    finally:
        postgres.close()


def _run_workers(ini: Path, options: Mapping[str, str], server_options: ServerOptions) -> None:
    """Run the workers until the server stops. Raises ClickException if they cannot start."""
    write_logs_in_background()
    address = (server_options.host, server_options.port)
    log.info("server: starting %d workers on http://%s:%d", server_options.workers, *address)
    server = _worker_supervisor(server_options)
    load_worker_app = partial(
        load_app,
        str(ini),
        options,
        ready_writer=server.ready_writer,
        shutdown_timeout_s=server_options.shutdown_timeout_s,
        cpu_bindings=bindings(server_options.workers) if server_options.bind_workers else [],
    )
    server.serve(target_loader=load_worker_app, wrap_loader=False)
    if server.has_failed:
        raise click.ClickException("the workers cannot start; the reasons are above")


def _worker_supervisor(options: ServerOptions) -> WorkerSupervisor:
    # With spawn, a worker inherits no thread, lock or database connection of this process.
    multiprocessing.set_start_method("spawn", force=True)
    return WorkerSupervisor(
        "livebackend",
        address=options.host,
        port=options.port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=options.workers,
        workers_kill_timeout=options.shutdown_timeout_s,
        blocking_threads=options.threads,
        backpressure=options.max_connections,
        backlog=options.backlog,
        http1_settings=HTTP1Settings(
            header_read_timeout=options.header_timeout_s * 1000,
            max_buffer_size=options.max_header_bytes,
        ),
        log_level=LogLevels.error,
        log_dictconfig=_GRANIAN_LOGGING,
    )
