"""Background threads in /readyz and in the metrics."""

import threading
from collections.abc import Callable, Iterator

import pytest
from webtest import TestApp

from livebackend.core.running_work import RunningWork
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.monitoring.health_checks import CheckFailed
from livebackend.monitoring.metrics import Metrics
from livebackend.monitoring.thread_health import ThreadHealth
from tests.support.api import App
from tests.support.waiting import wait_until

WAIT_S = 10


@pytest.fixture
def failed_threads() -> Iterator[list[SupervisedThread]]:
    """A required thread and another one, both waiting for their restart."""

    def fail() -> None:
        raise KeyError

    threads = [
        SupervisedThread(name, fail, is_required=name == "ledger")
        for name in ("ledger", "housekeeping")
    ]
    for thread in threads:
        thread.start()
    # After the third error, the pause is long enough for a test.
    wait_until(
        lambda: all(thread.failures >= 5 and thread.is_failed for thread in threads),
        WAIT_S,
        "the errors of the threads",
    )
    yield threads
    for thread in threads:
        thread.close(WAIT_S)


def health(threads: list[SupervisedThread], *failed_tasks: str) -> ThreadHealth:
    return ThreadHealth(threads, {}, lambda: frozenset(failed_tasks))


def test_failed_required_thread_is_a_failure(failed_threads: list[SupervisedThread]) -> None:
    with pytest.raises(CheckFailed, match=r"^ledger: the thread failed with KeyError$"):
        health(failed_threads).check_required_threads()


def test_every_failed_thread_is_a_warning(failed_threads: list[SupervisedThread]) -> None:
    health(failed_threads[1:]).check_required_threads()
    with pytest.raises(CheckFailed, match=r"^ledger: .*; housekeeping: .*KeyError$"):
        health(failed_threads).check_threads()


def test_failed_housekeeping_task_is_a_warning() -> None:
    with pytest.raises(CheckFailed, match=r"^housekeeping: task reconcile_orders failed$"):
        health([], "reconcile_orders").check_threads()


def test_call_that_does_not_end_is_a_warning() -> None:
    now = [0.0]
    work = RunningWork(lambda: now[0])
    checks = ThreadHealth([], {"provider call": work}, frozenset)
    work.begin()
    checks.check_threads()
    now[0] = 200
    with pytest.raises(CheckFailed, match=r"^provider call: one has run for 200 s$"):
        checks.check_threads()


def test_check_starts_a_thread_that_could_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    started = threading.Event()
    thread = SupervisedThread("metrics", started.set)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        thread.start()
    health([thread]).check_threads()
    assert started.wait(WAIT_S)


def test_failures_and_restarts_are_in_the_metrics(failed_threads: list[SupervisedThread]) -> None:
    metrics, work = Metrics(), RunningWork()
    metrics.observe_threads(failed_threads, {"request": work})
    labels = {"thread": "ledger"}
    value = metrics.registry.get_sample_value
    assert value("livebackend_failing_threads", labels) == 1
    metrics.refresh()
    restarts = value("livebackend_thread_restarts_total", labels)
    assert restarts is not None
    assert 5 <= restarts <= failed_threads[0].failures
    assert value("livebackend_longest_work_seconds", {"work": "request"}) == 0


def test_worker_whose_ledger_writer_is_blocked_is_not_ready(
    new_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app()
    monkeypatch.setattr(app.registry.services.ledger_writer.thread, "max_work_s", -1)
    with app.registry.services.ledger_writer.thread.work():
        response = TestApp(app).get("/readyz", status=503)
    assert response.json["failures"].keys() == {"required_threads"}
    assert response.json["warnings"].keys() == {"threads"}
    assert TestApp(app).get("/readyz").json == {"failures": {}, "warnings": {}}
