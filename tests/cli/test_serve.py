"""`livebackend serve` in real processes: responses, restarts and shutdown."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from livebackend.cli import main
from livebackend.config.settings import environment_variable
from livebackend.database.engine import Database
from livebackend.services.machine_semaphore import MachineSemaphore
from tests.support.api import run_concurrently
from tests.support.application import DEVELOPMENT_INI
from tests.support.pictures import PNG
from tests.support.servers import (
    Server,
    count_listening_sockets,
    free_port,
    running_server,
    start_server,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

PICTURE_PART = b'Content-Disposition: form-data; name="img"; filename="me.png"\r\n\r\n'
FORM_HEADER = "Content-Type: application/x-www-form-urlencoded\r\n"
LOGIN_FORM = "userId=13800000001&password=harbour-42"
WAIT_S = 20


def request_head(path: str, *headers: str, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{''.join(headers)}\r\n".encode()


def content_length(body_bytes: int) -> str:
    return f"Content-Length: {body_bytes}\r\n"


def post(path: str, form: str) -> bytes:
    return (
        request_head(path, FORM_HEADER, content_length(len(form)), "Connection: close\r\n")
        + form.encode()
    )


def read_response(connection: socket.socket) -> tuple[int, dict[str, object] | None, bytes]:
    """Return the status of a response, its body if it is JSON, and its headers."""
    received = b""
    while True:
        headers, separator, body = received.partition(b"\r\n\r\n")
        if separator and headers.startswith(b"HTTP/1.1 100"):
            received = body
            continue
        length_headers = [
            line for line in headers.split(b"\r\n") if line.startswith(b"content-length: ")
        ]
        if separator and len(body) >= int(length_headers[0].split()[1] if length_headers else 0):
            break
        chunk = connection.recv(65_536)
        if not chunk:
            break
        received += chunk
    assert headers, "no response"
    return int(headers.split()[1]), json.loads(body) if body.startswith(b"{") else None, headers


def send_request(server: Server, request: bytes) -> tuple[int, dict[str, object] | None, bytes]:
    with server.connect() as connection:
        connection.sendall(request)
        return read_response(connection)


def has_exited(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture(scope="module")
def url(new_database: Callable[[str], str], worker_id: str) -> str:
    return new_database(f"serve_{worker_id}")


@pytest.fixture
def settings(url: str) -> dict[str, str]:
    return {"database.url": url, "server.workers": "2", "server.shutdown_timeout_s": "8"}


@pytest.fixture(scope="module")
def server(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests that do not stop or change it."""
    shared_settings = {"database.url": url, "server.workers": "2", "server.header_timeout_s": "2"}
    with running_server(
        DEVELOPMENT_INI, tmp_path_factory.mktemp("serve"), shared_settings
    ) as server:
        yield server


class TestResponses:
    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (post("/list", "friendlist=1"), 200),
            (post("/no", "friendlist=1"), 404),
            (post("/list", "friendlist=2"), 404),
            (post("/%ff", ""), 400),
            (post("/list?x=%ff", "friendlist=1"), 400),
            (post("/list", "friendlist=1&friendlist=1"), 400),
            (request_head("/list", method="GET"), 405),
            (request_head("/list", method="TRACE"), 405),
            (
                request_head("/list", "Content-Type: text/plain\r\n", content_length(12))
                + b"friendlist=1",
                415,
            ),
            (request_head("/list", content_length(12)) + b"friendlist=1", 415),
            # The server rejects the next requests before it receives their bodies.
            (request_head("/list", FORM_HEADER, content_length(65_537)), 413),
            (
                request_head(
                    "/list", FORM_HEADER, content_length(65_537), "Expect: 100-continue\r\n"
                ),
                413,
            ),
            (request_head("/upload", FORM_HEADER, content_length(6_291_457)), 413),
        ],
    )
    def test_valid_and_invalid_requests_receive_an_envelope(
        self, request_: bytes, status: int, server: Server
    ) -> None:
        actual_status, body, _ = send_request(server, request_)
        assert actual_status == status
        assert body == {"result": "0012" if status == 200 else "0003", "message": None}

    def test_response_to_head_has_no_body(self, server: Server) -> None:
        with server.connect() as connection:
            connection.sendall(request_head("/list", "Connection: close\r\n", method="HEAD"))
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert received.startswith(b"HTTP/1.1 405 ")
        assert received.endswith(b"\r\n\r\n")

    def test_expect_100_continue_is_supported(self, server: Server) -> None:
        with server.connect() as connection:
            connection.sendall(
                request_head("/list", FORM_HEADER, content_length(12), "Expect: 100-continue\r\n")
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
            connection.sendall(b"friendlist=1")
            assert read_response(connection)[1] == {"result": "0012", "message": None}

    @pytest.mark.parametrize(
        ("content_type", "body", "status"),
        [
            (FORM_HEADER, b"friendlist=1", 200),
            (FORM_HEADER, b"x" * 65_536 + b"&friendlist=1", 413),
            ("", b"friendlist=1", 415),
            ("Content-Type: application/json\r\n", b"friendlist=1", 415),
            (
                "Content-Type: multipart/form-data; boundary=x\r\n",
                b'--x\r\nContent-Disposition: form-data; name="friendlist"\r\n\r\n1\r\n--x--\r\n',
                200,
            ),
        ],
    )
    def test_chunked_request_body_is_supported(
        self, content_type: str, body: bytes, status: int, server: Server
    ) -> None:
        body_pieces = [body[n : n + 5000] for n in range(0, len(body), 5000)]
        chunks = b"".join(
            b"%x\r\n%s\r\n" % (len(body_piece), body_piece) for body_piece in [*body_pieces, b""]
        )
        request = request_head("/list", content_type, "Transfer-Encoding: chunked\r\n") + chunks
        actual_status, envelope, _ = send_request(server, request)
        assert actual_status == status
        assert envelope == {"result": "0012" if status == 200 else "0003", "message": None}

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"nonsense\r\n\r\n", 400),
            (request_head("/list", "Content-Length: -1\r\n"), 400),
            (request_head("/list", content_length(1), content_length(2)) + b"xx", 400),
            (request_head("/list", f"X: {'y' * 17_000}\r\n"), 431),
            (request_head("/list", "X: y\r\n" * 200), 431),
        ],
    )
    def test_malformed_http_request_is_rejected_without_an_envelope(
        self, request_: bytes, status: int, server: Server
    ) -> None:
        assert send_request(server, request_)[:2] == (status, None)

    def test_responses_do_not_name_the_server_software(self, server: Server) -> None:
        for path in ("/list", "/no"):
            headers = send_request(server, post(path, "friendlist=1"))[2].lower()
            assert b"\r\nserver: \r\n" in headers
            assert b"granian" not in headers

    def test_one_connection_can_send_several_requests(self, server: Server) -> None:
        with server.connect() as connection:
            for _ in range(3):
                connection.sendall(
                    request_head("/list", FORM_HEADER, content_length(12)) + b"friendlist=1"
                )
                assert read_response(connection)[0] == 200

    @pytest.mark.parametrize("incomplete_request", [b"", b"POST /list HTTP/1.1\r\nHost:"])
    def test_idle_or_incomplete_connection_is_closed(
        self, incomplete_request: bytes, server: Server
    ) -> None:
        with server.connect() as connection:
            connection.sendall(incomplete_request)
            assert connection.recv(1000) == b""


def register(server: Server, phone: str) -> str:
    """Register an account; return a login token."""
    registration_form = f"register=1&userId={phone}&password=harbour-42"
    assert send_request(server, post("/register", registration_form))[1] == {
        "result": "0000",
        "message": None,
    }
    _, body, _ = send_request(server, post("/log", f"userId={phone}&password=harbour-42"))
    assert body is not None
    return str(body["message"])


class TestStop:
    @pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
    def test_stop_completes_a_request_in_progress_and_refuses_new_connections(
        self, stop_signal: int, settings: dict[str, str], database_url: str, tmp_path: Path
    ) -> None:
        settings |= {"database.url": database_url, "database.migrate": "false"}
        database = Database(database_url)
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            token = register(server, f"138{stop_signal:08}")
            pids = server.workers
            with server.connect() as connection, database.engine.begin() as locking_connection:
                locking_connection.exec_driver_sql("LOCK TABLE friendships")
                connection.sendall(post("/list", f"friendlist=1&token={token}"))
                time.sleep(0.5)
                server.process.send_signal(stop_signal)
                time.sleep(1)
                with pytest.raises(ConnectionRefusedError):
                    server.connect()
                locking_connection.rollback()
                status, body, _ = read_response(connection)
            assert (status, body) == (
                200,
                {"result": "0000", "message": {"count": 0, "friends": []}},
            )
            assert server.process.wait(timeout=10) == 0
            assert all(map(has_exited, pids))
        database.close()

    def test_server_with_an_idle_connection_stops_at_once(
        self, settings: dict[str, str], tmp_path: Path
    ) -> None:
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server, server.connect():
            stopped_at = time.monotonic()
            server.process.terminate()
            assert server.process.wait(timeout=20) == 0
            assert time.monotonic() - stopped_at < 4

    def test_worker_with_an_endless_request_is_killed_after_the_shutdown_timeout(
        self, settings: dict[str, str], tmp_path: Path
    ) -> None:
        settings["server.shutdown_timeout_s"] = "2"
        with (
            running_server(DEVELOPMENT_INI, tmp_path, settings) as server,
            server.connect() as connection,
        ):
            # The server waits for the request body, which the client never sends.
            connection.sendall(request_head("/list", FORM_HEADER, content_length(12)))
            time.sleep(0.5)
            pids = server.workers
            server.process.terminate()
            server.process.wait(timeout=6)
            assert all(map(has_exited, pids))

    def test_stop_rejects_logins_that_wait_for_password_hashing(
        self, settings: dict[str, str], tmp_path: Path
    ) -> None:
        settings |= {"server.workers": "1", "passwords.max_concurrent": "1"}
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            register(server, "13800000001")
            login_connections = [server.connect() for _ in range(4)]
            # Simulates another process that holds the semaphore while it hashes a password.
            with MachineSemaphore(tmp_path / "hashing", 1).acquire(0, timeout_s=1):
                for login_connection in login_connections:
                    login_connection.sendall(post("/log", LOGIN_FORM))
                time.sleep(0.5)
                server.process.terminate()
                time.sleep(0.5)
            statuses = sorted(
                read_response(login_connection)[0] for login_connection in login_connections
            )
            # The login that waits for the semaphore completes; the server rejects the other three.
            assert statuses == [200, 503, 503, 503]
            assert server.process.wait(timeout=10) == 0
            for login_connection in login_connections:
                login_connection.close()


class TestWorkers:
    def test_killed_worker_is_replaced(self, settings: dict[str, str], tmp_path: Path) -> None:
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            wait_until(lambda: count_listening_sockets(server) == 2, WAIT_S, "2 listening workers")
            first_pid, second_pid = server.workers
            os.kill(first_pid, signal.SIGKILL)
            wait_until(
                lambda: len(server.workers - {first_pid, second_pid}) == 1, WAIT_S, "a new worker"
            )
            assert send_request(server, post("/list", "friendlist=1"))[0] == 200
            assert second_pid in server.workers
            server.process.terminate()
            assert server.process.wait(timeout=20) == 0

    def test_workers_exit_when_the_parent_process_is_killed(
        self, settings: dict[str, str], tmp_path: Path
    ) -> None:
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            pids = server.workers
            server.process.kill()
            server.process.wait()
            wait_until(lambda: all(map(has_exited, pids)), WAIT_S, "the workers to exit")

    @pytest.mark.parametrize("how", ["worker is killed", "server stops"])
    def test_decoder_process_of_a_worker_ends_with_it(
        self, how: str, settings: dict[str, str], tmp_path: Path
    ) -> None:
        settings |= {"pictures.mode": "reencoded", "server.workers": "1"}
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            picture = b"--x\r\n" + PICTURE_PART + PNG + b"\r\n--x--\r\n"
            content_type = "Content-Type: multipart/form-data; boundary=x\r\n"
            head = request_head("/upload", content_type, content_length(len(picture)))
            _, response, _ = send_request(server, head + picture)
            assert response
            assert response["result"] == "0000"
            (worker,) = server.workers
            children = Path(f"/proc/{worker}/task").glob("*/children")
            (decoder,) = [int(pid) for file in children for pid in file.read_text().split()]
            if how == "worker is killed":
                os.kill(worker, signal.SIGKILL)
                wait_until(lambda: has_exited(decoder), WAIT_S, "the end of the decoder process")
        assert has_exited(decoder)

    def test_workers_leave_the_process_group_that_receives_ctrl_c(
        self, settings: dict[str, str], tmp_path: Path
    ) -> None:
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            wait_until(lambda: len(server.workers) == 2, WAIT_S, "2 workers")
            parent_group_id = os.getpgid(server.pid)
            wait_until(
                lambda: all(os.getpgid(pid) != parent_group_id for pid in server.workers),
                WAIT_S,
                "the workers to leave the process group",
            )

    def test_logins_that_wait_for_password_hashing_leave_threads_for_other_requests(
        self, settings: dict[str, str], tmp_path: Path
    ) -> None:
        settings |= {"server.workers": "1", "server.threads": "8", "passwords.max_concurrent": "1"}
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            token = register(server, "13800000002")
            login_connections = [server.connect() for _ in range(10)]
            with MachineSemaphore(tmp_path / "hashing", 1).acquire(0, timeout_s=1):
                for login_connection in login_connections:
                    login_connection.sendall(post("/log", LOGIN_FORM.replace("01&", "02&")))
                time.sleep(0.5)
                assert send_request(server, post("/list", f"friendlist=1&token={token}"))[0] == 200
            responses = [read_response(login_connection) for login_connection in login_connections]
            # Logins that wait for password hashing can occupy at most six of the eight threads.
            assert sorted(status for status, _, _ in responses) == [200] * 6 + [503] * 4
            assert all(
                b"\r\nretry-after: " in headers for status, _, headers in responses if status == 503
            )
            for login_connection in login_connections:
                login_connection.close()

    def test_login_whose_client_has_closed_the_connection_is_not_executed(
        self, settings: dict[str, str], tmp_path: Path
    ) -> None:
        settings |= {"server.workers": "1", "passwords.max_concurrent": "1"}
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            register(server, "13800000003")
            login = post("/log", LOGIN_FORM.replace("01&", "03&"))
            with MachineSemaphore(tmp_path / "hashing", 1).acquire(0, timeout_s=1):
                login_connections = [server.connect() for _ in range(10)]
                for login_connection in login_connections:
                    login_connection.sendall(login)
                time.sleep(0.5)
                for login_connection in login_connections:
                    login_connection.close()
                time.sleep(0.5)
                waiting_connection = server.connect()
                waiting_connection.sendall(login)
                time.sleep(0.5)
            assert read_response(waiting_connection)[0] == 200
            waiting_connection.close()
            message = "not executed: the client closed its connection"
            wait_until(
                lambda: server.log.read_text().count(message) == 10, WAIT_S, "10 rejected logins"
            )

    def test_workers_share_one_embedded_postgresql(self, tmp_path: Path) -> None:
        settings = {"database.url": "embedded", "server.workers": "2"}
        with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
            postgres_pid = int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
            register_calls = [lambda n=n: register(server, f"1380000000{n}") for n in range(4)]
            assert len(set(run_concurrently(*register_calls))) == 4
            os.kill(min(server.workers), signal.SIGKILL)
            assert not has_exited(postgres_pid)
            server.process.terminate()
            assert server.process.wait(timeout=20) == 0
            assert has_exited(postgres_pid)


class TestStart:
    def test_port_in_use_is_reported(self, server: Server, settings: dict[str, str]) -> None:
        environment = {environment_variable(name): value for name, value in settings.items()}
        result = CliRunner(env=environment).invoke(
            main, ["serve", str(DEVELOPMENT_INI), "--port", str(server.port)]
        )
        assert result.exit_code == 1
        message = f"host, port: cannot listen on 127.0.0.1:{server.port}: Address already in use"
        assert message in result.stderr

    @pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
    def test_process_of_the_checks_ends_with_the_parent_process(
        self, stop_signal: int, database_url: str, tmp_path: Path
    ) -> None:
        database = Database(database_url)
        engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        count_connections = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
        with engine.connect() as connection:
            # The checks wait for other processes that run migrations.
            connection.exec_driver_sql("SELECT pg_advisory_lock(6543)")
            server, process = start_server(
                free_port(), DEVELOPMENT_INI, tmp_path, {"database.url": database_url}
            )
            try:
                wait_until(lambda: server.workers, WAIT_S, "the process of the checks")
                (checks,) = server.workers
                wait_until(
                    lambda: connection.exec_driver_sql(count_connections).scalar(),
                    WAIT_S,
                    "the connection of the checks",
                )
            finally:
                process.send_signal(stop_signal)
                process.wait(timeout=10)
            wait_until(lambda: has_exited(checks), WAIT_S, "the end of the checks")
            connection.exec_driver_sql("SELECT pg_advisory_unlock(6543)")
        database.close()
        assert "Traceback" not in server.log.read_text()

    def test_all_invalid_settings_are_reported_in_one_message(self) -> None:
        environment = {"LIVEBACKEND_SERVER_THREADS": "many", "LIVEBACKEND_DATABASE_URL": "x"}
        result = CliRunner(env=environment).invoke(main, ["serve", str(DEVELOPMENT_INI)])
        assert result.exit_code == 1
        assert "  server.threads: " in result.stderr
        assert "  database.url: " in result.stderr

    def test_public_address_is_reported_together_with_invalid_settings(self) -> None:
        environment = {
            "LIVEBACKEND_SERVER_THREADS": "many",
            "LIVEBACKEND_SERVER_ALLOW_DIRECT_CLIENTS": "false",
        }
        command = ["serve", str(DEVELOPMENT_INI), "--host", "8.8.8.8"]
        result = CliRunner(env=environment).invoke(main, command)
        assert result.exit_code == 1
        assert "  server.threads: " in result.stderr
        assert "  host: clients on other machines can reach 8.8.8.8" in result.stderr
        environment["LIVEBACKEND_SERVER_ALLOW_DIRECT_CLIENTS"] = "yes"
        assert "host: " not in CliRunner(env=environment).invoke(main, command).stderr

    @pytest.mark.parametrize(
        ("changed_settings", "message"),
        [
            (
                {"server.allow_direct_clients": "false"},
                "host: clients on other machines can reach 8.8.8.8",
            ),
            (
                {"server.allow_direct_clients": "false", "http.trusted_proxies": "10.0.0.1"},
                "host, port: cannot listen on 8.8.8.8",
            ),
            # development.ini sets server.allow_direct_clients.
            ({}, "host, port: cannot listen on 8.8.8.8"),
        ],
    )
    def test_reachable_address_needs_a_trusted_proxy_or_a_permission(
        self, changed_settings: dict[str, str], message: str, settings: dict[str, str]
    ) -> None:
        environment = {
            environment_variable(name): value
            for name, value in (settings | changed_settings).items()
        }
        result = CliRunner(env=environment).invoke(
            main, ["serve", str(DEVELOPMENT_INI), "--host", "8.8.8.8"]
        )
        assert result.exit_code == 1
        assert message in result.stderr
