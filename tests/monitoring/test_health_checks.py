"""Whether a server is ready: each check by itself, and none of them waited for without end."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from sqlalchemy import text
from webtest import TestApp

from livebackend.database.engine import Database
from livebackend.monitoring.health_checks import (
    Fault,
    Readiness,
    check_database,
    check_disk,
    check_migrations,
    checks_of,
)
from tests.support.api import App
from tests.support.application import PRODUCTION_INI
from tests.support.servers import Server, hardened, serving


def fails() -> None:
    raise Fault("it is broken", do="Mend it.")


def test_only_what_fails_is_named() -> None:
    readiness = Readiness({"one": lambda: None, "other": fails})
    assert readiness.faults() == {"other": "it is broken"}
    assert Readiness({"one": lambda: None}).faults() == {}


def test_a_check_that_hangs_costs_its_time_once_and_one_thread() -> None:
    gone_on, asked = threading.Event(), []

    def hangs() -> None:
        asked.append(1)
        gone_on.wait(10)

    readiness = Readiness({"disk": hangs, "database": lambda: None, "tables": hangs}, wait_s=0.2)
    for _ in range(3):
        before = time.monotonic()
        assert readiness.faults() == {
            "disk": "no answer within 0.2 s",
            "tables": "no answer within 0.2 s",
        }
        assert time.monotonic() - before < 0.39  # not one after the other
    assert len(asked) == 2
    gone_on.set()
    deadline = time.monotonic() + 5
    while readiness.faults() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert readiness.faults() == {}


def test_a_server_that_can_work(database: Database, tmp_path: Path) -> None:
    checks = checks_of(database, folder=tmp_path / "not there yet", free_bytes_min=0)
    assert Readiness(checks).faults() == {}
    assert list(tmp_path.iterdir()) == []


class TestTheDatabase:
    def test_it_is_not_there(self) -> None:
        nowhere = Database("postgresql+psycopg2://x@127.0.0.1:1/x")
        with pytest.raises(Fault, match="cannot be reached"):
            check_database(nowhere)
        with pytest.raises(Fault, match="cannot be read"):
            check_migrations(nowhere)

    def test_a_standby_takes_no_writes(self, database_url: str) -> None:
        standby = Database(f"{database_url}&options=-c%20default_transaction_read_only%3Don")
        try:
            standby.engine.update_execution_options(postgresql_readonly=True)
            with pytest.raises(Fault, match="no writes"):
                check_database(standby)
        finally:
            standby.close()

    def test_it_is_behind(self, new_database: Callable[[str], str], worker_id: str) -> None:
        empty = Database(new_database(f"health_{worker_id}"))
        check_database(empty)
        with pytest.raises(Fault, match="behind the code"):
            check_migrations(empty)
        empty.close()


class TestTheDisk:
    def test_it_has_room(self, tmp_path: Path) -> None:
        check_disk(tmp_path, free_bytes_min=1)
        assert list(tmp_path.iterdir()) == []

    def test_it_has_too_little(self, tmp_path: Path) -> None:
        with pytest.raises(Fault, match="no picture is taken"):
            check_disk(tmp_path, free_bytes_min=10**18)

    def test_it_cannot_be_written(self) -> None:
        with pytest.raises(Fault, match="cannot be written"):
            check_disk(Path("/proc/self"), free_bytes_min=0)


class TestOverHttp:
    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    def test_all_is_well(self, path: str, app: App) -> None:
        response = TestApp(app).get(path)
        assert (response.status_int, response.json) == (200, {"faults": {}})
        assert response.headers["Cache-Control"] == "no-store"
        assert TestApp(app).head(path).status_int == 200

    def test_a_proxy_without_https_may_ask(self, new_app: Any) -> None:
        behind = new_app(http__trusted_proxies="127.0.0.0/8")
        client = TestApp(behind, extra_environ={"REMOTE_ADDR": "127.0.0.1"})
        assert client.get("/readyz").status_int == 200
        assert client.post("/list", status=400).json["result"] == "0003"

    @pytest.mark.processes
    def test_what_fails_is_named_and_the_process_still_lives(
        self, new_database: Any, worker_id: str, tmp_path: Path
    ) -> None:
        url = new_database(f"ready_{worker_id}")
        settings = {**hardened(url), "database.migrate": "true"}
        with serving(PRODUCTION_INI, tmp_path, settings) as server:
            assert get(server, "/readyz") == (200, {"faults": {}})
            database = Database(url)
            database.run(lambda tables: tables.execute(text("DELETE FROM alembic_version")))
            database.close()
            status, body = get(server, "/readyz")
            assert (status, body["faults"]) == (
                503,
                {"migrations": "the tables are behind the code"},
            )
            assert get(server, "/healthz") == (200, {"faults": {}})


def get(server: Server, path: str) -> tuple[int, Any]:
    try:
        with urlopen(server.address + path, timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())
