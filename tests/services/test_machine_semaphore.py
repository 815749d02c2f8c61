"""The semaphore that all processes of a machine share."""

import fcntl
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
