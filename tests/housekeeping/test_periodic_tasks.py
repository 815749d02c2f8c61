"""Housekeeping: one worker at a time runs the tasks, and continues after an error."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from livebackend.container import Services
from livebackend.database.engine import Database
from livebackend.database.leases import Lease
from livebackend.housekeeping.periodic_tasks import HousekeepingTasks, PeriodicTasks
from livebackend.services.payment_reconciliation import ReconciliationResult
from livebackend.services.stream_monitor import OPENING_TIMEOUT_S, StreamCheckResult, StreamMonitor
from tests.support.api import App, run_concurrently
from tests.support.application import create_app
from tests.support.database_state import DatabaseState
from tests.support.housekeeping import NO_OTHER_TASKS
from tests.support.waiting import wait_until

WAIT_S = 10


@pytest.fixture
def app(new_app: Callable[..., App]) -> App:
    return new_app(streams__gateway="tests.support.fake_gateways.RecordingStreams")


@pytest.fixture
def stream_monitor(services: Services) -> StreamMonitor:
    return services.stream_monitor


class TestPeriodicTasks:
    @pytest.fixture
    def workers(
        self, database: Database, stream_monitor: StreamMonitor
    ) -> Iterator[list[PeriodicTasks]]:
        workers = [
            PeriodicTasks(
                database,
                stream_monitor,
                NO_OTHER_TASKS,
                holder=f"worker {n}",
                period_s=OPENING_TIMEOUT_S + 1.4,
            )
            for n in range(3)
        ]
        yield workers
        for worker in workers:
            worker.close()

    @pytest.mark.processes
    def test_only_one_of_three_workers_runs_tasks_at_a_time(
        self,
        workers: list[PeriodicTasks],
        stream_monitor: StreamMonitor,
        database: Database,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        running_count, max_running_count, round_count = [0], [0], [0]

        def check_rooms(should_continue: object) -> None:
            running_count[0] += 1
            max_running_count[0] = max(max_running_count[0], running_count[0])
            time.sleep(0.1)
            round_count[0] += 1
            running_count[0] -= 1

        monkeypatch.setattr(stream_monitor, "check_rooms", check_rooms)
        run_concurrently(*[worker.start for worker in workers])
        start = time.monotonic()
        while round_count[0] < 8:
            assert time.monotonic() - start < 30
            time.sleep(0.01)
        assert max_running_count == [1]
        # One worker needs at least this time to run the task eight times. Three workers must not
        # be faster.
        assert time.monotonic() - start > 7 * 0.35
        assert len(database_state.rows("process_leases")) == 1

    def test_worker_acquires_the_expired_lease_of_a_killed_worker(
        self, workers: list[PeriodicTasks], database: Database, database_state: DatabaseState
    ) -> None:
        database.run(Lease("housekeeping", "killed worker", ttl_s=0.5).acquire)
        workers[1].start()
        wait_until(
            lambda: database_state.rows("process_leases")[0]["holder"] == "worker 1",
            WAIT_S,
            "worker 1 to acquire the lease",
        )

    def test_close_releases_the_lease(
        self, workers: list[PeriodicTasks], database_state: DatabaseState
    ) -> None:
        workers[0].start()
        wait_until(lambda: database_state.rows("process_leases"), WAIT_S, "the lease")
        workers[0].close()
        assert database_state.rows("process_leases") == []
        assert not workers[0].is_running

    @pytest.mark.parametrize(
        "error",
        [OperationalError("x", None, Exception()), KeyError("x")],
        ids=["database error", "other error"],
    )
    def test_failed_task_does_not_stop_the_tasks_after_it(
        self,
        error: Exception,
        database: Database,
        stream_monitor: StreamMonitor,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        finished_tasks: list[str] = []
        second_round_done = threading.Event()

        def reconcile_orders() -> ReconciliationResult:
            finished_tasks.append("orders")
            raise error

        def delete_pictures() -> int:
            finished_tasks.append("pictures")
            raise error

        def delete_rate_limits() -> None:
            finished_tasks.append("rate limits")
            if finished_tasks.count("rate limits") == 2:
                second_round_done.set()

        tasks = HousekeepingTasks(
            reconcile_orders, delete_pictures, delete_rate_limits, lambda: 0, lambda: None
        )
        runner = PeriodicTasks(
            database, stream_monitor, tasks, holder="worker", period_s=OPENING_TIMEOUT_S + 1.2
        )
        runner.start()
        assert second_round_done.wait(10)
        runner.close()
        assert finished_tasks[:6] == ["orders", "pictures", "rate limits"] * 2
        assert runner.failed_tasks == {"reconcile_orders", "delete_unused_pictures"}
        assert f"task reconcile_orders failed: {type(error).__name__}" in caplog.text

    def test_unexpected_error_is_waited_out_and_releases_the_lease(
        self,
        workers: list[PeriodicTasks],
        stream_monitor: StreamMonitor,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        holders: list[str] = []
        may_work, works_again = threading.Event(), threading.Event()

        def check_rooms(_: object) -> None:
            holders.extend(row["holder"] for row in database_state.rows("process_leases"))
            if not may_work.is_set():
                raise KeyError
            works_again.set()

        monkeypatch.setattr(stream_monitor, "check_rooms", check_rooms)
        workers[0].start()
        wait_until(
            lambda: workers[0].thread.failures >= 2 and not database_state.rows("process_leases"),
            WAIT_S,
            "the release of the lease",
        )
        may_work.set()
        assert works_again.wait(WAIT_S)
        assert workers[0].is_running
        assert set(holders) == {"worker 0"}

    def test_period_of_zero_starts_no_thread(
        self, database: Database, stream_monitor: StreamMonitor
    ) -> None:
        runner = PeriodicTasks(
            database, stream_monitor, NO_OTHER_TASKS, holder="worker", period_s=0
        )
        runner.start()
        assert not runner.is_running
        runner.close()

    def test_run_once_runs_every_task_and_returns_the_results(
        self, database: Database, stream_monitor: StreamMonitor, database_state: DatabaseState
    ) -> None:
        finished_tasks: list[str] = []

        def reconcile_orders() -> ReconciliationResult:
            finished_tasks.append("orders")
            return ReconciliationResult(queried=3, failed=1)

        def delete_pictures() -> int:
            finished_tasks.append("pictures")
            return 4

        def delete_old_rows() -> int:
            finished_tasks.append("rows")
            return 5

        tasks = HousekeepingTasks(
            reconcile_orders,
            delete_pictures,
            lambda: finished_tasks.append("rate limits"),
            delete_old_rows,
            lambda: finished_tasks.append("blocks"),
        )
        results = PeriodicTasks(
            database, stream_monitor, tasks, holder="worker", period_s=0
        ).run_once()
        assert results.rooms == StreamCheckResult(checked=0, closed=0, disabled=0, failed=False)
        assert (results.orders, results.deleted_pictures) == (ReconciliationResult(3, 1), 4)
        assert results.deleted_rows == 5
        assert sorted(finished_tasks) == ["blocks", "orders", "pictures", "rate limits", "rows"]
        assert len(finished_tasks) == len(HousekeepingTasks._fields)
        assert database_state.rows("process_leases") == []

    def test_thread_starts_and_stops_with_the_services(
        self, database_url: str, data_dir: Path, database_state: DatabaseState
    ) -> None:
        database_state.execute(
            "INSERT INTO rate_limit_counters"
            " VALUES ('expired', '{}', '{}', now() - interval '1 s');"
            "INSERT INTO pictures (location, created_at) VALUES ('x', now() - interval '2 days')"
        )
        threads_before = threading.active_count()
        app = create_app(database_url, data_dir, streams__check_interval_s="10")
        services: Services = app.registry.services
        assert services.periodic_tasks.is_running
        wait_until(lambda: database_state.rows("process_leases"), WAIT_S, "the lease")
        wait_until(
            lambda: (
                not database_state.rows("pictures") + database_state.rows("rate_limit_counters")
            ),
            WAIT_S,
            "the tasks to delete the rows",
        )
        services.close()
        assert not services.periodic_tasks.is_running
        assert threading.active_count() <= threads_before
        assert database_state.rows("process_leases") == []

    def test_failed_round_is_followed_by_another_round(
        self,
        workers: list[PeriodicTasks],
        stream_monitor: StreamMonitor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        rounds: list[int] = []

        def check_rooms(should_continue: object) -> None:
            rounds.append(1)
            raise OperationalError("x", {}, Exception("connection refused"))

        monkeypatch.setattr(stream_monitor, "check_rooms", check_rooms)
        workers[0].start()
        wait_until(lambda: len(rounds) >= 2, WAIT_S, "the second round")
