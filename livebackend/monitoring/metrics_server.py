"""HTTP server that serves the metrics of all workers to Prometheus.

Each worker writes its metrics into files of a shared folder. One worker listens on the address and
serves the sums; when it ends, another worker takes over. The counters of ended workers stay in the
sums until the server restarts, so that no counter decreases.
"""

import fcntl
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server, values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from livebackend.config.errors import SettingsError

log = logging.getLogger(__name__)

_RETRY_INTERVAL_S = 2.0


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
        values.ValueClass = values.MultiProcessValue()

    def start(self, *collectors: Collector) -> None:
        """Start a thread that serves the metrics as soon as the address is free."""
        registry = CollectorRegistry()
        registry.register(_LiveProcessCollector(self._folder))
        for collector in collectors:
            registry.register(collector)
        threading.Thread(target=self._listen, args=(registry,), name="metrics", daemon=True).start()

    def _listen(self, registry: CollectorRegistry) -> None:
        error_is_logged = False
        while True:
            try:
                start_http_server(self._port, self._host, registry)
            except OSError as error:
                if not error_is_logged:
                    log.info(
                        "metrics: cannot listen on port %s yet: %s", self._port, error.strerror
                    )
                error_is_logged = True
                time.sleep(_RETRY_INTERVAL_S)
            else:
                log.info("metrics: served at http://%s:%s/metrics", self._host, self._port)
                return


class _LiveProcessCollector(Collector):
    """Sums the metrics of all processes, without the gauges of killed processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._collector = MultiProcessCollector(None, path=str(folder))

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
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
