"""Binds each worker process to one CPU.

The interpreter's lock (GIL) lets only one thread of a process run Python at a time. On one CPU, a
thread that waits for the lock continues without a signal to another CPU, and finds the data of the
process in that CPU's caches: a gift needs a third less CPU time.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple


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
    """Bind all threads of this process, and those that it will start."""
    global _binding  # noqa: PLW0603
    for thread_id in os.listdir("/proc/self/task"):  # noqa: PTH208
        with suppress(ProcessLookupError):  # the thread has ended
            os.sched_setaffinity(int(thread_id), {binding.cpu})
    _binding = binding


def unbind(process_id: int) -> None:
    """Let a process that this process has started use all CPUs of the server."""
    if _binding:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(process_id, _binding.all_cpus)


@contextmanager
def any_cpu() -> Iterator[None]:
    """Let the current thread use all CPUs of the server, for long work without the GIL."""
    if _binding is None:
        yield
        return
    os.sched_setaffinity(0, _binding.all_cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, {_binding.cpu})
