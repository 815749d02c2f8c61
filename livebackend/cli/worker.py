"""A worker process of `livebackend serve`: loads the application and enforces its stop."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livebackend.cli.ini_logging import setup_logging
from livebackend.core.cpu_binding import CpuBinding, bind_process
from livebackend.core.supervised_thread import SupervisedThread

if TYPE_CHECKING:
    from livebackend.container import Services


def load_app(
    ini: str,
    options: Mapping[str, str],
    *,
    ready_writer: Connection,
    shutdown_timeout_s: int,
    cpu_bindings: Sequence[CpuBinding],
    worker_index: int,
) -> "HideServerHeader":
    """Return the application of a worker; its services close when the worker ends.

    Sends a message to `ready_writer` when the application is loaded.
    """
    # The worker has its own process group, so that only the parent gets the SIGINT of Ctrl-C. The
    # parent then stops the workers.
    os.setpgid(0, 0)
    setup_logging(Path(ini))
    # The parent process imports this module, but not the application.
    from pyramid.paster import get_app  # noqa: PLC0415

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
    # Settings depend on the number of usable CPUs, so the process is bound after they are read.
    if cpu_bindings:
        bind_process(cpu_bindings[worker_index])
    ready_writer.send_bytes(b"ready")
    return HideServerHeader(app)


def _enforce_stop(
    services: "Services", signal_reader: socket.socket, shutdown_timeout_s: int
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
