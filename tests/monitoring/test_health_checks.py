"""Health checks: the result of each check, the time limit, and the HTTP endpoints."""

import errno
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from sqlalchemy import text
from webtest import TestApp

from livebackend.database.engine import Database
from livebackend.monitoring import health_checks
from livebackend.monitoring.health_checks import (
    CheckFailed,
    ReadinessProbe,
    RecentCheck,
    check_clock,
    check_database,
    check_disk,
    check_migrations,
    check_pool,
    check_writable,
    readiness_checks,
)
from livebackend.monitoring.startup_checks import warn_of_clock_skew
from tests.support.api import ApiClient, App
from tests.support.application import PRODUCTION_INI
from tests.support.pictures import PNG, upload
from tests.support.postgres_backends import backend_pid, terminate_backend
from tests.support.servers import Server, hardened_settings, running_server
from tests.support.waiting import wait_until


def failing_check() -> None:
    raise CheckFailed("it is broken", remedy="Fix it.")


def test_readiness_reports_only_failed_checks() -> None:
    readiness = ReadinessProbe({"one": lambda: None, "other": failing_check})
    assert readiness.run().failures == {"other": "it is broken"}
    assert ReadinessProbe({"one": lambda: None}).run().failures == {}


def test_failed_warning_check_is_a_warning_and_not_a_failure() -> None:
    readiness = ReadinessProbe({"one": lambda: None}, warning_checks={"other": failing_check})
    assert readiness.run() == ({}, {"other": "it is broken"})


def test_hanging_warning_check_does_not_hide_the_results_of_other_checks() -> None:
    release_event = threading.Event()
    readiness = ReadinessProbe(
        {"one": failing_check},
        warning_checks={"other": lambda: _wait(release_event)},
        timeout_s=60,
    )
    # Without its own time limit, the warning check would delay the result for a minute.
    result = readiness.run()
    release_event.set()
    assert result == (
        {"one": "it is broken"},
        {"other": "the check did not end within 0.2 s"},
    )


def _wait(release_event: threading.Event) -> None:
    release_event.wait(60)


def test_hanging_check_uses_one_thread_and_does_not_delay_other_checks() -> None:
    release_event, started = threading.Event(), []

    def hanging_check() -> None:
        started.append(1)
        release_event.wait(10)

    readiness = ReadinessProbe(
        {"disk": hanging_check, "database": lambda: None, "tables": hanging_check}, timeout_s=0.2
    )
    for _ in range(3):
        started_at = time.monotonic()
        assert readiness.run().failures == {
            "disk": "the check did not end within 0.2 s",
            "tables": "the check did not end within 0.2 s",
        }
        took_s = time.monotonic() - started_at
        # One after the other, both checks would take 0.4 s.
        assert took_s < 0.39
    assert len(started) == 2
    release_event.set()
    deadline = time.monotonic() + 5
    while readiness.run().failures and time.monotonic() < deadline:
        time.sleep(0.01)
    assert readiness.run().failures == {}


def test_all_checks_pass_on_a_working_server(database: Database, tmp_path: Path) -> None:
    checks = readiness_checks(
        database, request_database=database, data_dir=tmp_path / "not there yet"
    )
    assert ReadinessProbe(checks).run() == ({}, {})
    assert list(tmp_path.iterdir()) == []


class TestDatabaseCheck:
    def test_unreachable_database_fails(self) -> None:
        unreachable = Database("postgresql+psycopg2://x@127.0.0.1:1/x")
        with pytest.raises(CheckFailed, match="PostgreSQL cannot be reached"):
            check_database(unreachable)
        with pytest.raises(CheckFailed, match="schema version cannot be read"):
            check_migrations(unreachable)

    def test_read_only_standby_fails(self, database_url: str) -> None:
        standby = Database(f"{database_url}&options=-c%20default_transaction_read_only%3Don")
        try:
            standby.engine.update_execution_options(postgresql_readonly=True)
            with pytest.raises(CheckFailed, match="PostgreSQL is read-only"):
                check_database(standby)
        finally:
            standby.close()

    def test_lost_connections_of_the_pool_are_replaced(
        self, database: Database, database_url: str
    ) -> None:
        probe_database = Database(database_url, pool_size=2)
        with probe_database.engine.connect() as connection:
            pids = [backend_pid(connection)]
            with probe_database.engine.connect() as other_connection:
                pids.append(backend_pid(other_connection))
        for pid in pids:
            terminate_backend(pid, database)
        check_database(probe_database)
        check_migrations(probe_database)
        probe_database.close()

    @pytest.mark.parametrize("autocommit", [True, False])
    def test_database_that_cannot_write_files_fails(
        self, *, autocommit: bool, new_database: Callable[[str], str], worker_id: str
    ) -> None:
        name = f"full_{worker_id}"
        database = Database(new_database(name), autocommit=autocommit)
        check_database(database)
        database.execute_one(text(f"ALTER DATABASE {name} SET temp_file_limit = 64"))
        database.engine.dispose()
        with pytest.raises(CheckFailed, match="PostgreSQL cannot write: temporary file size"):
            check_database(database)
        database.close()

    def test_check_changes_no_table(self, database: Database) -> None:
        size_of_tables = text(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 't')"
        )
        size_bytes = database.execute_one(size_of_tables)
        for _ in range(20):
            check_database(database)
        assert database.execute_one(size_of_tables) == size_bytes

    def test_schema_without_migrations_fails(
        self, new_database: Callable[[str], str], worker_id: str
    ) -> None:
        empty_database = Database(new_database(f"health_{worker_id}"))
        check_database(empty_database)
        with pytest.raises(CheckFailed, match="out of date"):
            check_migrations(empty_database)
        empty_database.close()


class TestPoolCheck:
    def test_stuck_pool_fails(self, database_url: str) -> None:
        database = Database(database_url, pool_size=1)
        check_pool(database)
        with database.engine.connect():
            wait_until(lambda: database.pool.is_stuck, 20, "the pool to be stuck")
            with pytest.raises(CheckFailed, match="all database connections are in use"):
                check_pool(database)
        wait_until(lambda: not database.pool.is_stuck, 20, "the pool to recover")
        check_pool(database)
        database.close()

    def test_database_that_does_not_respond_fails_until_another_pool_connects(
        self, database_url: str
    ) -> None:
        database = Database(database_url, pool_size=1)
        database.availability.record_silence(since=time.monotonic())
        with pytest.raises(CheckFailed, match="PostgreSQL does not respond"):
            check_pool(database)
        probe_database = database.with_own_pool(1)
        check_database(probe_database)
        check_pool(database)
        probe_database.close()
        database.close()


class TestRecentCheck:
    @pytest.mark.parametrize("fails", [True, False])
    def test_result_is_used_again_until_it_is_too_old(self, *, fails: bool) -> None:
        times, runs = iter([0.0, 0.0, 0.4, 0.6, 0.6]), []

        def check() -> None:
            runs.append(1)
            if fails:
                raise CheckFailed("it is broken", remedy="Fix it.")

        recent_check = RecentCheck(check, 0.5, clock=lambda: next(times))
        for expected_runs in (1, 1, 2):
            with pytest.raises(CheckFailed) if fails else nullcontext():
                recent_check()
            assert len(runs) == expected_runs


class TestDiskCheck:
    def test_writable_folder_with_free_space_passes(self, tmp_path: Path) -> None:
        check_disk(tmp_path, min_free_bytes=1)
        assert list(tmp_path.iterdir()) == []

    def test_too_little_free_space_fails(self, tmp_path: Path) -> None:
        with pytest.raises(CheckFailed, match="uploads are rejected"):
            check_disk(tmp_path, min_free_bytes=10**18)

    def test_folder_that_is_not_writable_fails(self) -> None:
        with pytest.raises(CheckFailed, match="cannot be written"):
            check_disk(Path("/proc/self"), min_free_bytes=0)


class TestClockCheck:
    @pytest.mark.parametrize(
        ("clock_ahead_s", "difference"), [(3600, "3,600 s behind"), (-3600, "3,600 s ahead")]
    )
    def test_clock_that_differs_by_an_hour_fails(
        self, clock_ahead_s: float, difference: str, database: Database
    ) -> None:
        with pytest.raises(CheckFailed, match=f"the database is {difference}"):
            check_clock(database, lambda: time.time() + clock_ahead_s)

    @pytest.mark.parametrize("clock_ahead_s", [0, 29, -29])
    def test_clock_that_differs_by_less_than_30_seconds_passes(
        self, clock_ahead_s: float, database: Database
    ) -> None:
        check_clock(database, lambda: time.time() + clock_ahead_s)

    def test_unreachable_database_passes_because_its_own_check_fails(self) -> None:
        check_clock(Database("postgresql+psycopg2://x@127.0.0.1:1/x"))

    def test_wrong_clock_is_a_warning_at_the_start_and_in_readyz(
        self,
        database: Database,
        app: App,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(health_checks, "MAX_CLOCK_SKEW_S", -1.0)
        warn_of_clock_skew(database)
        assert "clock: compared with this machine's clock, the database is" in caplog.text
        response = TestApp(app).get("/readyz")
        assert response.json["failures"] == {}
        assert list(response.json["warnings"]) == ["clock"]


class TestWritableCheck:
    def test_writable_folder_passes_without_a_write_to_the_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail_to_write(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        for module, name in ((os, "open"), (os, "mkdir"), (tempfile, "TemporaryFile")):
            monkeypatch.setattr(module, name, fail_to_write)
        check_writable(tmp_path)
        check_writable(tmp_path / "not there yet")

    @pytest.mark.parametrize("name", ["file", "file/folder"])
    def test_folder_that_cannot_be_created_fails(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(CheckFailed, match="cannot be written"):
            check_writable(tmp_path / name)

    def test_read_only_file_system_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(CheckFailed, match="cannot be written"):
            check_writable(tmp_path)


class TestHttpEndpoints:
    def test_disk_without_space_for_uploads_only_rejects_uploads(
        self, new_hardened_app: Callable[..., App]
    ) -> None:
        app = new_hardened_app(pictures__min_free_disk_bytes=str(10**18), limits__upload="")
        response = upload(ApiClient(app), PNG)
        assert (response.result, response.error) == ("0006", "img; reason=picture_not_stored")
        assert TestApp(app).get("/readyz").json["failures"] == {}
        assert ApiClient(app).post("/list", friendlist="1").result == "0012"

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    def test_endpoints_respond_200_on_a_working_server(self, path: str, app: App) -> None:
        response = TestApp(app).get(path)
        assert (response.status_int, response.json) == (200, {"failures": {}, "warnings": {}})
        assert response.headers["Cache-Control"] == "no-store"
        assert TestApp(app).head(path).status_int == 200

    def test_endpoints_are_served_to_a_proxy_without_https(self, new_app: Any) -> None:
        app_behind_proxy = new_app(http__trusted_proxies="127.0.0.0/8")
        client = TestApp(app_behind_proxy, extra_environ={"REMOTE_ADDR": "127.0.0.1"})
        assert client.get("/readyz").status_int == 200
        assert client.post("/list", status=400).json["result"] == "0003"

    @pytest.mark.processes
    def test_readyz_names_the_failed_check_while_healthz_still_responds_200(
        self, new_database: Any, worker_id: str, tmp_path: Path
    ) -> None:
        url = new_database(f"ready_{worker_id}")
        settings = {**hardened_settings(url), "database.migrate": "true"}
        with running_server(PRODUCTION_INI, tmp_path, settings) as server:
            assert get(server, "/readyz") == (200, {"failures": {}, "warnings": {}})
            database = Database(url)
            database.run(lambda connection: connection.execute(text("DELETE FROM alembic_version")))
            database.close()
            status, body = get(server, "/readyz")
            assert (status, body["failures"]) == (
                503,
                {"migrations": "the database schema is out of date"},
            )
            assert get(server, "/healthz") == (200, {"failures": {}, "warnings": {}})


def get(server: Server, path: str) -> tuple[int, Any]:
    try:
        with urlopen(server.address + path, timeout=10) as response:
            return response.status, json.loads(response.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())
