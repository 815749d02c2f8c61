"""Where Prometheus reads the metrics: an address of its own, whichever process answers there.

Each process writes its numbers into files of a folder; whoever is asked adds them up. The first
process of a server holds the address, and when it ends another one takes it. Numbers of processes
that have ended stay in the sums until the server starts anew, so that no counter ever falls.
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

_TRY_AGAIN_S = 2.0
_PORT_MAX = 65_535


class Listener:
    """Adds up what processes with the same address count. Must be there before they count.

    Raises SettingsError where the folder for that cannot be had.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        if self._port > _PORT_MAX:
            raise SettingsError(f"metrics.listen: there is no port {self._port}")
        # Here and not in var.dir, which several machines may share: they are added up elsewhere.
        name = f"livebackend-metrics-{os.geteuid()}-{self._port}"
        self._folder = Path(tempfile.gettempdir()) / name
        self._users = _joined(self._folder)
        # As the library wants it of who counts in several processes.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._folder)
        values.ValueClass = values.MultiProcessValue()

    def start(self, *more: Collector) -> None:
        """Answers, as soon as the address is free, by a thread of its own."""
        registry = CollectorRegistry()
        registry.register(_Living(self._folder))
        for each in more:
            registry.register(each)
        threading.Thread(target=self._listen, args=(registry,), name="metrics", daemon=True).start()

    def _listen(self, registry: CollectorRegistry) -> None:
        told = False
        while True:
            try:
                start_http_server(self._port, self._host, registry)
            except OSError as error:
                if not told:
                    log.info("metrics: another answers on port %s: %s", self._port, error.strerror)
                told = True
                time.sleep(_TRY_AGAIN_S)
            else:
                log.info("metrics are on http://%s:%s/metrics", self._host, self._port)
                return


class _Living(Collector):
    """The sums over all processes, after those that were killed have been forgotten."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sums = MultiProcessCollector(None, path=str(folder))

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        for file in self._folder.glob("gauge_live*_*.db"):
            process = file.stem.rpartition("_")[2]
            if not Path(f"/proc/{process}").exists():
                mark_process_dead(int(process), str(self._folder))
        yield from self._sums.collect()


def _joined(folder: Path) -> int:
    """Makes a folder one's own; its first user clears what a former server left in it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != os.geteuid() or folder.is_symlink():
            raise PermissionError(0, "belongs to somebody else")
        users = os.open(folder / "users", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"metrics.listen: {folder}: {error.strerror}") from None
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for file in folder.glob("*.db"):
            file.unlink()
    except BlockingIOError:
        pass  # others use it
    # Held until this process ends; nobody has written anything who does not hold it.
    fcntl.flock(users, fcntl.LOCK_SH)
    return users
