"""Binds each worker process to one CPU.

The interpreter's lock (GIL) lets only one thread of a process run Python at a time. On one CPU, a
thread that waits for the lock continues without a signal to another CPU, and finds the data of the
process in that CPU's caches: a gift needs a third less CPU time.
"""

import logging
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

log = logging.getLogger(__name__)


class CpuBinding(NamedTuple):
    """The CPU of a worker, and the CPUs that its server can use."""

    cpu: int
    all_cpus: frozenset[int]


# The binding of this process; None if the process is not bound.
_binding: CpuBinding | None = None
# The number of threads within any_cpu().
_unbound_count = 0
_lock = threading.Lock()


def bindings(workers: int, *, usable_cpus: Collection[int] | None = None) -> list[CpuBinding]:
    """Return the binding of each worker; an empty list unless each CPU has exactly one worker.

    With fewer workers, other programs are expected on the machine, such as another container that
    would bind its workers to the same CPUs.
    """
    if usable_cpus is None:
        # macOS has no such function.
        usable_cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    if len(usable_cpus) != workers:
        return []
    return [CpuBinding(cpu, frozenset(usable_cpus)) for cpu in sorted(usable_cpus)]


def bind_process(binding: CpuBinding) -> None:
    """Bind all threads of this process, and those that it will start.

    The system can refuse it, for example after the server's CPUs have changed. Then a warning is
    logged, and the process is not bound.
    """
    global _binding  # noqa: PLW0603
    try:
        os.sched_setaffinity(0, {binding.cpu})
    except OSError as error:
        log.warning("server: a worker cannot be bound to CPU %d: %s", binding.cpu, error.strerror)
        return
    _binding = binding
    _move_threads({binding.cpu})


def unbind(process_id: int) -> None:
    """Let a process that this process has started use all CPUs of the server."""
    if _binding:
        _move_thread(process_id, _binding.all_cpus)


@contextmanager
def any_cpu() -> Iterator[None]:
    """Let all threads of this process use all CPUs of the server meanwhile.

    For work that occupies a CPU for long without the GIL: the kernel could not spread it and the
    other threads over the CPUs.
    """
    binding = _binding
    if binding is None:
        yield
        return
    _count_unbound(1, binding)
    try:
        yield
    finally:
        _count_unbound(-1, binding)


def _count_unbound(change: int, binding: CpuBinding) -> None:
    global _unbound_count  # noqa: PLW0603
    with _lock:
        was_bound = _unbound_count == 0
        _unbound_count += change
        is_bound = _unbound_count == 0
        if is_bound != was_bound:
            _move_threads({binding.cpu} if is_bound else binding.all_cpus)


def _move_threads(cpus: Collection[int]) -> None:
    with suppress(OSError):  # a system without /proc
        for thread_id in os.listdir("/proc/self/task"):  # noqa: PTH208
            _move_thread(int(thread_id), cpus)


def _move_thread(thread_id: int, cpus: Collection[int]) -> None:
    # The thread has ended, or the CPUs of the server have changed: binding only saves time.
    with suppress(OSError):
        os.sched_setaffinity(thread_id, cpus)
