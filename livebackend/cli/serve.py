"""`livebackend serve`: run the application in worker processes on one port."""

import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import click
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from pyramid.paster import get_app

from livebackend.cli.ini_file import check_section, read_section, setup_logging
from livebackend.cli.worker_supervisor import WorkerSupervisor
from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings
from livebackend.container import (
    Services,
    open_database,
    required_connections,
    worker_count,
)
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.monitoring.database_gate import DatabaseGate
from livebackend.monitoring.log_queue import write_logs_in_background
from livebackend.monitoring.startup_checks import check_port_is_free, warn_of_connection_limit

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
    try:
        setup_logging(ini)
        settings, address = check_section(read_section(ini, options))
        # The database stays open until the last worker has ended, because the workers share an
        # embedded PostgreSQL.
        database = open_database(settings)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    try:
        DatabaseGate(database, migrates=settings.database_migrate).try_to_open()
        warn_of_connection_limit(database, required=required_connections(settings))
        check_port_is_free(*address)
        database.engine.dispose()
        write_logs_in_background()
        workers = worker_count(settings)
        log.info("server: starting %d workers on http://%s:%d", workers, *address)
        server = _worker_supervisor(settings, address, workers)
        load_worker_app = partial(
            load_app,
            str(ini),
            options,
            ready_writer=server.ready_writer,
            shutdown_timeout_s=settings.server_shutdown_timeout_s,
        )
        server.serve(target_loader=load_worker_app, wrap_loader=False)
        if server.has_failed:
            raise click.ClickException("the workers cannot start; the reasons are above")
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    finally:
        database.close()


def _worker_supervisor(
    settings: Settings, address: tuple[str, int], workers: int
) -> WorkerSupervisor:
    # With spawn, a worker inherits no thread, lock or database connection of this process.
    multiprocessing.set_start_method("spawn", force=True)
    host, port = address
    return WorkerSupervisor(
        "livebackend",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=workers,
        workers_kill_timeout=settings.server_shutdown_timeout_s,
        blocking_threads=settings.server_threads,
        backpressure=settings.server_max_connections,
        backlog=settings.server_backlog,
        http1_settings=HTTP1Settings(
            header_read_timeout=settings.server_header_timeout_s * 1000,
            max_buffer_size=settings.server_max_header_bytes,
        ),
        log_level=LogLevels.error,
        log_dictconfig=_GRANIAN_LOGGING,
    )


def load_app(
    ini: str,
    options: Mapping[str, str],
    *,
    ready_writer: Connection,
    shutdown_timeout_s: int,
) -> "HideServerHeader":
    """Return the application of a worker; its services close when the worker ends.

    Sends a message to `ready_writer` when the application is loaded.
    """
    # The worker has its own process group, so that only the parent gets the SIGINT of Ctrl-C. The
    # parent then stops the workers.
    os.setpgid(0, 0)
    setup_logging(Path(ini))
    app = get_app(ini, name="main", options=options)
    services: Services = app.registry.services
    Finalize(services, services.close, exitpriority=0)
    # The thread below learns of signals through the wakeup descriptor, which still works after
    # Granian has installed its signal handlers.
    signal_reader, signal_writer = socket.socketpair()
    signal_writer.setblocking(False)  # required by set_wakeup_fd
    signal.set_wakeup_fd(signal_writer.detach())
    stop_watcher = SupervisedThread(
        "stop watcher", partial(_enforce_stop, services, signal_reader, shutdown_timeout_s)
    )
    if not stop_watcher.start():
        # Without this thread, the worker would not detect that its parent has ended.
        raise RuntimeError("the worker cannot start a thread")
    ready_writer.send_bytes(b"ready")
    return HideServerHeader(app)


def _enforce_stop(
    services: Services, signal_reader: socket.socket, shutdown_timeout_s: int
) -> None:
    """Ensure that the worker stops after a signal, or when its parent has ended.

    Rejects the requests that wait to hash a password. Kills the worker if it has not ended after
    `shutdown_timeout_s`.
    """
    parent = multiprocessing.parent_process()
    parent_sentinels = [parent.sentinel] if parent else []
    if signal_reader not in wait([signal_reader, *parent_sentinels]):
        os.kill(os.getpid(), signal.SIGTERM)
    services.stop_waiting()
    # The parent kills the worker after this time. If the parent has ended, the worker kills
    # itself.
    time.sleep(shutdown_timeout_s)
    os.kill(os.getpid(), signal.SIGKILL)


class HideServerHeader:
    """Wraps the application, and empties the `Server` header of its responses."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start_with_empty_server_header(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Any:
            return start_response(status, [*headers, ("Server", "")], exc_info)

        return self._app(environ, start_with_empty_server_header)
