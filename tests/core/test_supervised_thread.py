"""Background threads: restarts after errors, failed starts, and blocked work."""

import logging
import threading
from collections.abc import Callable
from functools import partial

import pytest

from livebackend.core.running_work import RunningWork
from livebackend.core.supervised_thread import SupervisedThread, start_thread
from tests.support.clock import FakeClock
from tests.support.waiting import wait_until

WAIT_S = 10


def wait_for(event: threading.Event) -> None:
    event.wait(WAIT_S)


@pytest.fixture
def unstartable_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Threads cannot start until the returned function is called."""

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    return monkeypatch.undo


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(1), MemoryError()])
def test_function_runs_again_after_any_error(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    runs, works_again = [], threading.Event()

    def run() -> None:
        runs.append(1)
        if len(runs) <= 2:
            raise error
        works_again.set()

    thread = SupervisedThread("worker", run)
    thread.start()
    assert works_again.wait(WAIT_S)
    thread.close(WAIT_S)
    assert (thread.failures, len(runs)) == (2, 3)
    assert thread.problem == f"the thread failed with {type(error).__name__}"
    records = [record for record in caplog.records if "thread worker" in record.message]
    assert len(records) == 2
    assert all(record.exc_info for record in records)


def test_pauses_double_up_to_their_maximum_and_begin_again_after_a_recovery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock(1000)
    pauses: list[float | None] = []

    def run() -> None:
        if len(pauses) == 9:
            clock.now += 60
        if len(pauses) < 10:
            raise KeyError

    class NoPause(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout)
            return False

    thread = SupervisedThread("worker", run, clock=clock)
    monkeypatch.setattr(thread, "closing", NoPause())
    thread.start()
    thread.close(WAIT_S)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 0.1])


def test_failed_thread_is_reported_until_it_has_worked_for_a_while() -> None:
    clock, has_failed, works_again = FakeClock(1000), threading.Event(), threading.Event()

    def run() -> None:
        if not has_failed.is_set():
            has_failed.set()
            raise KeyError
        works_again.wait(WAIT_S)

    thread = SupervisedThread("worker", run, clock=clock)
    assert thread.problem is None
    thread.start()
    assert has_failed.wait(WAIT_S)
    wait_until(lambda: thread.failures == 1 and not thread.is_failed, WAIT_S, "the restart")
    assert thread.problem == "the thread failed with KeyError"
    clock.now += 11
    assert thread.problem is None
    works_again.set()
    thread.close(WAIT_S)
    assert not thread.is_running


def test_closed_thread_is_not_restarted() -> None:
    failed = threading.Event()

    def run() -> None:
        failed.set()
        raise KeyError

    thread = SupervisedThread("worker", run)
    thread.start()
    assert failed.wait(WAIT_S)
    thread.close(WAIT_S)
    assert not thread.is_running
    assert not thread.start()


def test_thread_whose_function_has_returned_can_start_again() -> None:
    runs: list[int] = []
    thread = SupervisedThread("worker", lambda: runs.append(1))
    for _ in range(2):
        thread.start()
        wait_until(lambda: not thread.is_running, WAIT_S, "the end of the thread")
    assert len(runs) == 2


def test_failed_start_is_reported_and_repeated(
    unstartable_threads: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()
    thread = SupervisedThread("worker", partial(wait_for, ended))
    assert not thread.start()
    assert (thread.problem, thread.is_failed) == ("the thread cannot be started", True)
    assert "thread worker: not started: can't start new thread" in caplog.text
    unstartable_threads()
    thread.retry_start()
    assert (thread.problem, thread.is_running) == (None, True)
    ended.set()
    thread.close(WAIT_S)


def test_thread_that_cannot_start_is_logged_and_not_an_error(
    unstartable_threads: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    assert start_thread("worker", lambda: None) is None
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_thread_is_blocked_while_its_work_takes_too_long() -> None:
    clock = FakeClock(1000)
    thread = SupervisedThread("worker", lambda: None, max_work_s=5, clock=clock)
    with thread.work():
        clock.now += 5
        assert not thread.is_failed
        clock.now += 1
        assert thread.is_failed
        assert thread.problem == "the thread has been blocked for more than 5 s"
    assert (thread.is_failed, thread.problem) == (False, None)


def test_longest_running_work_is_measured() -> None:
    clock = FakeClock(1000)
    work = RunningWork(clock)
    assert work.longest_s == 0
    first = work.begin()
    clock.now += 3
    second = work.begin()
    clock.now += 1
    assert work.longest_s == 4
    work.end(first)
    assert work.longest_s == 1
    work.end(second)
    assert work.longest_s == 0
