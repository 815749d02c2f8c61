"""The binding of workers to CPUs."""

import errno
import os
import subprocess
import sys

import pytest

from livebackend.core.cpu_binding import CpuBinding, any_cpu, bind_process, bindings, unbind

# Starts a thread, binds the process to its first CPU, and starts another thread.
PROGRAM = """
import os, subprocess, sys, threading
from livebackend.core.cpu_binding import CpuBinding, any_cpu, bind_process, unbind

def start_thread():
    thread = threading.Thread(target=stop.wait)
    thread.start()
    return thread.native_id

def is_bound(thread_id=0):
    return os.sched_getaffinity(thread_id) == {cpus[0]}

def is_unbound(process_id=0):
    return os.sched_getaffinity(process_id) == set(cpus)

cpus = sorted(os.sched_getaffinity(0))
stop = threading.Event()
earlier_thread = start_thread()
bind_process(CpuBinding(cpus[0], frozenset(cpus)))
later_thread = start_thread()
try:
CODE
finally:
    stop.set()
"""


def run_bound(*lines: str) -> None:
    """Run lines of code in a new process that is bound to its first CPU."""
    code = "\n".join(f"    {line}" for line in lines)
    subprocess.run([sys.executable, "-c", PROGRAM.replace("CODE", code)], check=True, timeout=30)


class TestBindings:
    def test_each_worker_has_another_cpu(self) -> None:
        assert bindings(3, usable_cpus={7, 2, 4}) == [
            CpuBinding(2, frozenset({2, 4, 7})),
            CpuBinding(4, frozenset({2, 4, 7})),
            CpuBinding(7, frozenset({2, 4, 7})),
        ]

    @pytest.mark.parametrize("workers", [1, 2, 4, 64])
    def test_fewer_or_more_workers_than_cpus_are_not_bound(self, workers: int) -> None:
        assert bindings(workers, usable_cpus={0, 1, 2}) == []

    def test_usable_cpus_are_those_of_this_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
        assert [binding.cpu for binding in bindings(2)] == [3, 5]
        assert bindings(1) == []

    def test_workers_are_not_bound_on_a_system_without_cpu_affinity(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        assert bindings(1) == []


@pytest.mark.processes
class TestBoundProcess:
    def test_earlier_and_later_threads_are_bound(self) -> None:
        run_bound("assert is_bound() and is_bound(earlier_thread) and is_bound(later_thread)")

    def test_all_threads_can_use_all_cpus_within_any_cpu(self) -> None:
        run_bound(
            "with any_cpu():",
            "    with any_cpu(): pass",
            "    assert is_unbound() and is_unbound(earlier_thread) and is_unbound(later_thread)",
            "assert is_bound() and is_bound(earlier_thread) and is_bound(later_thread)",
        )

    def test_process_is_bound_again_after_an_error_within_any_cpu(self) -> None:
        run_bound(
            "try:",
            "    with any_cpu(): raise KeyError",
            "except KeyError:",
            "    assert is_bound()",
        )

    def test_child_process_can_use_all_cpus_after_unbind(self) -> None:
        run_bound(
            "child = subprocess.Popen(['cat'], stdin=subprocess.PIPE)",
            "assert is_bound(child.pid)",
            "unbind(child.pid)",
            "assert is_unbound(child.pid) and is_bound()",
            "child.communicate()",
        )

    def test_bound_process_works_after_its_cpus_have_changed(self) -> None:
        run_bound(
            "def refuse(*_): raise OSError",
            "os.sched_setaffinity = refuse",
            "with any_cpu(): unbind(os.getpid())",
        )

    def test_unbind_of_an_ended_process_does_nothing(self) -> None:
        run_bound(
            "child = subprocess.Popen(['true'])",
            "child.wait()",
            "unbind(child.pid)",
        )


def test_process_that_is_not_bound_changes_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda *call: calls.append(call), raising=False)
    with any_cpu():
        unbind(os.getpid())
    assert calls == []


def test_process_whose_cpu_is_no_longer_usable_works_unbound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    bind_process(CpuBinding(77, frozenset({77})))
    assert "a worker cannot be bound to CPU 77: Invalid argument" in caplog.text
