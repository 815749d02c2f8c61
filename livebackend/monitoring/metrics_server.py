"""HTTP server that serves the metrics of all workers to Prometheus.

Each worker writes its metrics to files of a shared folder, once per second. One worker listens on
the address and serves the sums; when it ends, another worker takes over. The counters of ended
workers stay in the sums until the server restarts, so that no counter decreases.
"""

import fcntl
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server, values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from livebackend.config.errors import SettingsError
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.monitoring.metrics_files import MetricsFiles

log = logging.getLogger(__name__)

# Seconds between two writes of the files, and between two attempts to listen on the address.
INTERVAL_S = 1.0
_CLOSE_TIMEOUT_S = 2.0


class MetricsServer:
    """Serves metrics, summed up over all worker processes with the same address.

    Create the server before any metric: it switches prometheus_client to multiprocess mode. Raises
    SettingsError if the folder for the metrics cannot be used.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        # The folder is not in data.dir: several machines can share data.dir, but each machine must
        # serve only its own metrics.
        name = f"livebackend-metrics-{os.geteuid()}-{self._port}"
        self._folder = Path(tempfile.gettempdir()) / name
        self._lock_file = _lock_folder(self._folder)
        # prometheus_client reads this variable only when it is imported, so the class that stores
        # metric values is replaced here as well.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._folder)
        value_module: Any = values
        value_module.ValueClass = values.MultiProcessValue()
        self._files = MetricsFiles()
        value_module.MmapedDict = self._files.open
        self._registry = CollectorRegistry()
        self._registry.register(_LiveProcessCollector(self._folder, self._write_files))
        self._refresh: Callable[[], None] = lambda: None
        self._server: Any = None
        self._server_thread: threading.Thread | None = None
        # The last problem of each kind that was logged.
        self._logged_problems: dict[str, str] = {}
        self.thread = SupervisedThread("metrics", self._run)

    def start(self, *collectors: Collector, refresh: Callable[[], None]) -> None:
        """Start a thread that serves the metrics as soon as the address is free.

        The thread calls `refresh` before it writes the metrics of this process.
        """
        for collector in collectors:
            self._registry.register(collector)
        self._refresh = refresh
        self.thread.start()

    def close(self) -> None:
        """Write the last values and stop the thread."""
        self.thread.close(_CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while True:
            self._refresh()
            self._write_files()
            if self.thread.closing.is_set():
                return
            self._listen()
            self.thread.closing.wait(INTERVAL_S)

    def _listen(self) -> None:
        """Start the HTTP server unless it runs."""
        if self._server_thread and self._server_thread.is_alive():
            return
        if self._server:
            self._server.server_close()
            self._server = None
        try:
            self._server, self._server_thread = start_http_server(
                self._port, self._host, self._registry
            )
        except OSError as error:
            message = f"metrics: cannot listen on port {self._port} yet: {error.strerror}"
            self._log_new_problem("listen", logging.INFO, message)
        else:
            self._logged_problems.pop("listen", None)
            log.info("metrics: served at http://%s:%s/metrics", self._host, self._port)

    def _write_files(self) -> None:
        try:
            self._files.write()
        except OSError as error:
            message = (
                f"metrics: {self._folder} cannot be written, some metrics are out of date:"
                f" {error.strerror}"
            )
            self._log_new_problem("write", logging.WARNING, message)
        else:
            self._logged_problems.pop("write", None)

    def _log_new_problem(self, kind: str, level: int, message: str) -> None:
        if self._logged_problems.get(kind) != message:
            self._logged_problems[kind] = message
            log.log(level, message)


class _LiveProcessCollector(Collector):
    """Sums the metrics of all processes, without the gauges of killed processes."""

    def __init__(self, folder: Path, write_files: Callable[[], None]) -> None:
        self._folder = folder
        self._write_files = write_files
        self._collector = MultiProcessCollector(None, path=str(folder))

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        self._write_files()
        for file in self._folder.glob("gauge_live*_*.db"):
            process_id = file.stem.rpartition("_")[2]
            if not Path(f"/proc/{process_id}").exists():
                mark_process_dead(int(process_id), str(self._folder))
        yield from self._collector.collect()


def _lock_folder(folder: Path) -> int:
    """Create and lock the metrics folder; return the descriptor of its lock file.

    All running processes share the lock. A process that finds the folder unlocked deletes the files
    of ended processes.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != os.geteuid() or folder.is_symlink():
            raise PermissionError(0, "the path is not a folder that the current user owns")
        lock_descriptor = os.open(folder / "users", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(
            f"metrics.address: cannot use the folder {folder} for the metrics of the workers:"
            f" {error.strerror}"
        ) from None
    try:
        fcntl.flock(lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for file in folder.glob("*.db"):
            file.unlink()
    except BlockingIOError:
        pass  # another process has the lock, so its metrics are in these files
    # The lock is held until this process ends. A process writes metrics only while it has the lock.
    fcntl.flock(lock_descriptor, fcntl.LOCK_SH)
    return lock_descriptor
