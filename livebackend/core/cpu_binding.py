"""Binds each worker process to one CPU.

The interpreter's lock (GIL) lets only one thread of a process run Python at a time. On one CPU, a
thread that waits for the lock continues without a signal to another CPU, and finds the data of the
process in that CPU's caches: a gift needs a third less CPU time.
"""

import logging
import os
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
        thread_ids = os.listdir("/proc/self/task")  # noqa: PTH208
    except OSError as error:
        log.warning("server: a worker cannot be bound to CPU %d: %s", binding.cpu, error.strerror)
        return
    for thread_id in thread_ids:
        _try_to_bind(int(thread_id), {binding.cpu})
    _binding = binding


def unbind(process_id: int) -> None:
    """Let a process that this process has started use all CPUs of the server."""
    if _binding:
        _try_to_bind(process_id, _binding.all_cpus)


@contextmanager
def any_cpu() -> Iterator[None]:
    """Let the current thread use all CPUs of the server, for long work without the GIL."""
    if _binding is None:
        yield
        return
    _try_to_bind(0, _binding.all_cpus)
    try:
        yield
    finally:
        _try_to_bind(0, {_binding.cpu})


def _try_to_bind(thread_id: int, cpus: Collection[int]) -> None:
    # The thread has ended, or the CPUs of the server have changed: binding only saves time.
    with suppress(OSError):
        os.sched_setaffinity(thread_id, cpus)
