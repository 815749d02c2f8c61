"""Workers that end, and workers that wait for the database, in real processes."""

import os
import signal
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.application import DEVELOPMENT_INI
from tests.support.postgres_node import Node, create_data_directory, socket_directory
from tests.support.servers import (
    Server,
    count_listening_sockets,
    free_port,
    running_server,
    start_server,
    wait_until_up,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

WAIT_S = 100
REGISTER_FORM = "register=1&userId=13800000001&password=harbour-42"


@pytest.fixture
def stopped_node(tmp_path: Path) -> Iterator[Node]:
    """A PostgreSQL server without tables that is not running."""
    folder = tmp_path / "nodes"
    folder.mkdir()
    folder.chmod(0o755)
    with socket_directory() as socket_root:
        account = create_data_directory(folder / "node", migrated=False)
        node = Node("node", folder, socket_root, account)
        yield node
        node.kill()


def request(server: Server, method: str, path: str, form: str = "") -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    connection.request(method, path, form, headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, orjson.loads(body) if body else None


def failures(server: Server) -> Any:
    """Return the failed readiness checks."""
    return request(server, "GET", "/readyz")[1]["failures"]


def is_ready(server: Server) -> bool:
    return request(server, "GET", "/readyz")[0] == 200


class TestDatabase:
    def test_server_becomes_ready_when_its_database_becomes_reachable(
        self, stopped_node: Node, tmp_path: Path
    ) -> None:
        settings = {
            "database.url": stopped_node.url,
            "database.migrate": "true",
            "server.workers": "2",
        }
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            assert request(server, "GET", "/healthz")[0] == 200
            assert failures(server).keys() == {"database", "migrations", "start"}
            for path, form, code in (
                ("/register", REGISTER_FORM, "0006"),
                ("/log", "userId=13800000001&password=harbour-42", "0008"),
                ("/pili/callback", "x=1", "0003"),
            ):
                status, body = request(server, "POST", path, form)
                assert (status, body) == (503, {"result": code, "message": None})
            wait_until(lambda: count_listening_sockets(server) == 2, WAIT_S, "2 workers")
            pids = server.workers
            stopped_node.start()
            # Both workers run the migrations: one of them waits for the other.
            wait_until(lambda: server.log.read_text().count("usable now") == 2, WAIT_S, "2 workers")
            assert is_ready(server)
            status, body = request(server, "POST", "/register", REGISTER_FORM)
            assert (status, body) == (200, {"result": "0000", "message": None})
            assert server.workers == pids
            assert server.log.read_text().count("1001 ") == 1

    def test_worker_waits_for_missing_migrations_of_a_database_that_becomes_reachable(
        self, stopped_node: Node, tmp_path: Path
    ) -> None:
        settings = {
            "database.url": stopped_node.url,
            "database.migrate": "false",
            "server.workers": "1",
        }
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            stopped_node.start()
            wait_until(lambda: failures(server).keys() == {"migrations", "start"}, WAIT_S, "tables")
            assert request(server, "POST", "/register", REGISTER_FORM)[0] == 503
            (worker,) = server.workers
            message = "run `livebackend migrate`"
            wait_until(lambda: message in server.log.read_text(), WAIT_S, "the reason")
            assert server.workers == {worker}

    def test_server_does_not_start_if_a_reachable_database_lacks_migrations(
        self, stopped_node: Node, tmp_path: Path
    ) -> None:
        stopped_node.start()
        settings = {"database.url": stopped_node.url, "database.migrate": "false"}
        server, process = start_server(free_port(), DEVELOPMENT_INI, tmp_path, settings)
        assert process.wait(WAIT_S) == 1
        assert "run `livebackend migrate`" in server.log.read_text()

    def test_worker_that_is_killed_while_the_database_is_unreachable_is_replaced(
        self, stopped_node: Node, tmp_path: Path
    ) -> None:
        stopped_node.start()
        settings = {"database.url": stopped_node.url, "server.workers": "2"}
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            wait_until(lambda: count_listening_sockets(server) == 2, WAIT_S, "2 workers")
            stopped_node.kill()
            killed, healthy = sorted(server.workers)
            os.kill(killed, signal.SIGKILL)
            message = "requests are rejected until it can be used"
            wait_until(lambda: message in server.log.read_text(), WAIT_S, "the new worker")
            assert healthy in server.workers
            assert len(server.workers) == 2
            assert request(server, "POST", "/register", REGISTER_FORM)[0] == 503
            stopped_node.start()
            wait_until(lambda: "usable now" in server.log.read_text(), WAIT_S, "the new worker")
            assert request(server, "POST", "/register", REGISTER_FORM)[0] == 200


class TestRespawn:
    def test_worker_that_dies_again_and_again_does_not_stop_a_healthy_worker(
        self, database_url: str, tmp_path: Path
    ) -> None:
        settings = {
            "database.url": database_url,
            "database.migrate": "false",
            "server.workers": "2",
        }
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            wait_until(lambda: count_listening_sockets(server) == 2, WAIT_S, "2 workers")
            killed, healthy = sorted(server.workers)
            for _ in range(3):
                os.kill(killed, signal.SIGKILL)
                killed = wait_until(
                    lambda: next(iter(server.workers - {healthy, killed}), 0),  # noqa: B023
                    WAIT_S,
                    "a new worker",
                )
            assert healthy in server.workers
            assert server.process.poll() is None
            assert request(server, "GET", "/healthz")[0] == 200
            server.process.terminate()
            assert server.process.wait(20) == 0

    def test_server_ends_with_a_message_if_no_worker_can_start(
        self, database_url: str, tmp_path: Path
    ) -> None:
        # The parent process creates no application, so only the workers fail.
        ini = tmp_path / "broken.ini"
        ini.write_text(
            DEVELOPMENT_INI.read_text().replace(
                "use = egg:livebackend\n", "use = egg:livebackend\nfilter-with = broken\n"
            )
            + "\n[filter:broken]\nuse = call:json:loads\n"
        )
        settings = {"database.url": database_url, "server.workers": "2"}
        server, process = start_server(free_port(), ini, tmp_path, settings)
        assert process.wait(WAIT_S) == 1
        log = server.log.read_text()
        assert "TypeError" in log
        assert "the workers cannot start; the reasons are above" in log
        assert log.count("ended with exit code 1") in (3, 4)

    def test_pserve_restarts_a_killed_embedded_postgresql(self, tmp_path: Path) -> None:
        settings = {"database.url": "embedded", "streams.check_interval_s": "0"}
        with running_server(DEVELOPMENT_INI, tmp_path, settings, pserve=True) as server:
            assert wait_until_up(server, server.process)
            assert request(server, "POST", "/register", REGISTER_FORM)[0] == 200
            pid_file = tmp_path / "postgres" / "postmaster.pid"
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
            wait_until(lambda: "the server runs again" in server.log.read_text(), WAIT_S, "restart")
            status, body = request(server, "POST", "/register", REGISTER_FORM)
            assert (status, body["result"]) == (200, "0006")
            assert is_ready(server)
