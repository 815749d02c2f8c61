"""`livebackend serve`: the application in several processes, on one port."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import click
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from pyramid.paster import get_app, get_appsettings

from livebackend.cli.ini import setup_logging
from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings, with_own_address
from livebackend.container import Services, checked_settings, open_database
from livebackend.database.migrations import check_migrated, migrate

log = logging.getLogger(__name__)

# What granian says goes where the ini file sends what we say.
_LOGGING = {
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}},
}


@click.command()
@click.argument("ini", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--host", help="Where to listen, instead of the host in the ini file.")
@click.option("--port", help="Likewise the port.")
def serve(ini: Path, host: str | None, port: str | None) -> None:
    """Serve until SIGTERM or Ctrl-C; calls in flight are answered first.

    Example: livebackend serve production.ini
    """
    setup_logging(ini)
    options = {name: value for name, value in {"host": host, "port": port}.items() if value}
    given = get_appsettings(str(ini), name="main", options=options)
    address = given.global_conf["host"], int(given.global_conf["port"])
    try:
        settings, _ = checked_settings(with_own_address(given, given.global_conf), os.environ)
        # Held until the last worker has ended: an embedded PostgreSQL is started once and shared.
        database = open_database(settings)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    try:
        if settings.database_migrate:
            migrate(database)
        check_migrated(database)
        _refuse_a_taken(address)
        database.engine.dispose()
        workers = settings.server_workers or os.cpu_count() or 1
        log.info("%d workers serve on http://%s:%d", workers, *address)
        load = partial(load_app, str(ini), options, stop_wait_s=settings.server_stop_wait_s)
        _server(settings, address, workers).serve(target_loader=load, wrap_loader=False)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    finally:
        database.close()


def _server(settings: Settings, address: tuple[str, int], workers: int) -> Any:
    # A worker begins as a fresh interpreter: no thread, lock or connection of this one is in it.
    multiprocessing.set_start_method("spawn", force=True)
    host, port = address
    return Granian(
        "livebackend",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=workers,
        respawn_failed_workers=True,
        workers_kill_timeout=settings.server_stop_wait_s,
        blocking_threads=settings.server_threads,
        backpressure=settings.server_connections,
        backlog=settings.server_backlog,
        http1_settings=HTTP1Settings(
            header_read_timeout=settings.server_header_wait_s * 1000,
            max_buffer_size=settings.server_header_bytes_max,
        ),
        log_level=LogLevels.error,
        log_dictconfig=_LOGGING,
    )


def _refuse_a_taken(address: tuple[str, int]) -> None:
    """Raises SettingsError where somebody else listens: workers share a port with anybody."""
    host, port = address
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, port))
        except OSError as error:
            raise SettingsError(f"host, port: {host}:{port}: {error.strerror}") from None


def load_app(ini: str, options: Mapping[str, str], *, stop_wait_s: int) -> "Nameless":
    """The application of a worker, which is closed when the worker ends."""
    # Ctrl-C is for the parent alone, which then stops the workers.
    os.setpgid(0, 0)
    setup_logging(Path(ini))
    app = get_app(ini, name="main", options=options)
    services: Services = app.registry.services
    Finalize(services, services.close, exitpriority=0)
    # The server sets its handlers later; what is written here tells of a signal all the same.
    heard, tell = socket.socketpair()
    tell.setblocking(False)  # the name of the method says it
    signal.set_wakeup_fd(tell.detach())
    threading.Thread(target=_stop_in_time, args=(services, heard, stop_wait_s), daemon=True).start()
    return Nameless(app)


def _stop_in_time(services: Services, heard: socket.socket, stop_wait_s: int) -> None:
    """Sends waiting calls away when the worker is told to stop, or when its parent was killed."""
    parent = multiprocessing.parent_process()
    gone = [parent.sentinel] if parent else []
    if heard not in wait([heard, *gone]):
        os.kill(os.getpid(), signal.SIGTERM)
    services.stop_waiting()
    # Otherwise the parent's to do.
    time.sleep(stop_wait_s)
    os.kill(os.getpid(), signal.SIGKILL)


class Nameless:
    """The application, whose replies do not tell what server sends them."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("Server", "")], exc_info)

        return self._app(environ, start)
