"""The supervisor of the worker processes: replaces workers that end."""

import logging
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from granian.server.mp import MPServer

log = logging.getLogger(__name__)

# A worker that ends earlier is replaced after a pause, which doubles each time.
_STABLE_AFTER_S = 10.0
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.5, 30.0
# So many workers can end before the first worker is ready. Then the server ends.
_MAX_FAILED_STARTS = 3


class WorkerSupervisor(MPServer):
    """Granian's server with other rules for workers that end.

    Granian ends the whole server if a worker ends twice within 5.5 s. This server replaces a worker
    as often as it ends. A worker that ends never stops a healthy worker. The server ends only if no
    worker has ever been ready: then the workers cannot start.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ready_reader, self.ready_writer = multiprocessing.Pipe(duplex=False)
        self._any_worker_was_ready = False
        self._failed_starts = 0
        # By the index of a worker: how often it ended early in a row, and when the next one starts.
        self._early_ends: dict[int, int] = {}
        self._start_times: dict[int, float] = {}

    @property
    def has_failed(self) -> bool:
        """Whether the server ended because its workers could not start."""
        return not self._any_worker_was_ready and self._failed_starts >= _MAX_FAILED_STARTS

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> Any:  # type: ignore[override]
        # Granian's method, called for each worker: the function that loads the application gets
        # the index of its worker.
        return super()._spawn_worker(idx, target, partial(callback_loader, worker_index=idx))

    def _serve_loop(self, spawn_target: Callable[..., None], target_loader: Any) -> None:
        # Granian's loop, called by `serve`. A signal, and each worker that ends, set the event.
        while True:
            self.main_loop_interrupt.wait(self._seconds_until_next_start())
            self.main_loop_interrupt.clear()
            if self.interrupt_signal:
                break
            self._read_ready_workers()
            self._schedule_replacements()
            if self.has_failed:
                break
            if self.reload_signal:
                self._reload(spawn_target, target_loader)  # type: ignore[no-untyped-call]
                self._start_times.clear()  # every worker is new
            self._start_replacements(spawn_target, target_loader)
        # Otherwise, Granian would exit with 1 after each stop.
        self.interrupt_children.clear()

    def _read_ready_workers(self) -> None:
        """Read the messages of the workers that have loaded the application."""
        while self._ready_reader.poll():
            self._ready_reader.recv_bytes()
            self._any_worker_was_ready = True

    def _schedule_replacements(self) -> None:
        for index, worker in enumerate(self.wrks):
            process: Any = worker.inner
            if process.is_alive() or index in self._start_times:
                continue
            is_early = time.monotonic() - worker.birth < _STABLE_AFTER_S
            early_ends = self._early_ends.get(index, 0) + 1 if is_early else 0
            self._early_ends[index] = early_ends
            self._failed_starts += 1
            pause_s = min(_FIRST_PAUSE_S * 2**early_ends, _MAX_PAUSE_S) if early_ends else 0.0
            self._start_times[index] = time.monotonic() + pause_s
            log.error(
                "server: worker %d ended with exit code %s, a new one starts in %g s",
                *(index + 1, process.exitcode, pause_s),
            )

    def _start_replacements(self, spawn_target: Callable[..., None], target_loader: Any) -> None:
        now = time.monotonic()
        due_workers = [index for index, start in self._start_times.items() if start <= now]
        for index in due_workers:
            del self._start_times[index]
            self._respawn_workers([index], spawn_target, target_loader)

    def _seconds_until_next_start(self) -> float | None:
        if not self._start_times:
            return None
        return max(0.0, min(self._start_times.values()) - time.monotonic())
