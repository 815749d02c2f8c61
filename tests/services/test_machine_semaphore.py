"""The semaphore that all processes of a machine share."""

import fcntl
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from livebackend.core.errors import ServiceUnavailable
from livebackend.services.machine_semaphore import MachineSemaphore
from tests.support.waiting import wait_until


@contextmanager
def permit_of_another_process(folder: Path, permit: int = 0) -> Iterator[None]:
    """Hold a permit; flock() treats another open file like another process."""
    with (folder / str(permit)).open("rb") as permit_file:
        fcntl.flock(permit_file, fcntl.LOCK_EX)
        yield


def helper_threads() -> int:
    return sum(thread.name == "hashing permit" for thread in threading.enumerate())


def hold_semaphore(folder: Path, is_held: Any) -> None:
    with MachineSemaphore(folder, 1).acquire(0, timeout_s=1):
        is_held.set()
        time.sleep(60)


@pytest.mark.processes
def test_killed_process_releases_the_semaphore(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    is_held = context.Event()
    process = context.Process(target=hold_semaphore, args=(tmp_path, is_held))
    process.start()
    assert is_held.wait(30)
    process.kill()
    process.join()
    with MachineSemaphore(tmp_path, 1).acquire(0, timeout_s=1):
        pass


def test_free_permit_is_acquired_while_another_process_holds_a_permit(tmp_path: Path) -> None:
    semaphore = MachineSemaphore(tmp_path, 2)
    for permit in (0, 1):
        with permit_of_another_process(tmp_path), semaphore.acquire(permit, timeout_s=0):
            pass
    assert helper_threads() == 0


def test_wait_for_a_permit_of_another_process_ends_at_the_timeout(tmp_path: Path) -> None:
    semaphore = MachineSemaphore(tmp_path, 1)
    with permit_of_another_process(tmp_path):
        for _ in range(5):
            with pytest.raises(ServiceUnavailable), semaphore.acquire(0, timeout_s=0.01):
                pytest.fail("the permit was acquired")
        # All five calls used one helper thread.
        assert helper_threads() == 1
    wait_until(lambda: helper_threads() == 0, 5, "the helper thread to end")
    with semaphore.acquire(0, timeout_s=0):
        pass


def test_waiting_call_gets_the_permit_when_another_process_releases_it(tmp_path: Path) -> None:
    semaphore, acquired = MachineSemaphore(tmp_path, 1), []

    def acquire() -> None:
        with semaphore.acquire(0, timeout_s=10):
            acquired.append(True)

    thread = threading.Thread(target=acquire)
    with permit_of_another_process(tmp_path):
        thread.start()
        wait_until(lambda: helper_threads() == 1, 5, "the call to wait")
        assert acquired == []
    thread.join(10)
    assert acquired == [True]
    with semaphore.acquire(0, timeout_s=0):
        pass


def test_permit_can_be_acquired_after_a_helper_thread_could_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    semaphore = MachineSemaphore(tmp_path, 1)
    with permit_of_another_process(tmp_path), monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(ServiceUnavailable), semaphore.acquire(0, timeout_s=0.01):
            pytest.fail("the permit was acquired")
    with permit_of_another_process(tmp_path):
        with pytest.raises(ServiceUnavailable), semaphore.acquire(0, timeout_s=0.01):
            pytest.fail("the permit was acquired")
        assert helper_threads() == 1
    wait_until(lambda: helper_threads() == 0, 5, "the helper thread to end")


def test_helper_thread_that_fails_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def fail_if_blocking(file: BinaryIO, operation: int) -> None:
        if operation == fcntl.LOCK_EX:
            raise MemoryError
        lock(file, operation)

    semaphore = MachineSemaphore(tmp_path, 1)
    with permit_of_another_process(tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", fail_if_blocking)
            patch.setattr(threading, "excepthook", lambda _: None)
            with pytest.raises(ServiceUnavailable), semaphore.acquire(0, timeout_s=0.1):
                pytest.fail("the permit was acquired")
            wait_until(lambda: helper_threads() == 0, 5, "the helper thread to end")
        with pytest.raises(ServiceUnavailable), semaphore.acquire(0, timeout_s=0.1):
            pytest.fail("the permit was acquired")
        assert helper_threads() == 1
    wait_until(lambda: helper_threads() == 0, 5, "the helper thread to end")
