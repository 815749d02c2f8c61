"""The real nginx, with deploy/nginx-site.conf, in front of a real server of production.ini."""

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import PRODUCTION_INI
from tests.operations.machine import Machine, machine
from tests.servers import Server, hardened, serving

HOST = "live.example"
AT_ONCE = 50  # limit_conn
HEADER_S, BODY_S = 10, 10  # client_header_timeout, client_body_timeout

pytestmark = pytest.mark.timeout(180)


class Front:
    """nginx, as somebody outside sees it."""

    def __init__(self, here: Machine, server: Server) -> None:
        self.server = server
        self.https_port, self._http = int(here.ports["443"]), int(here.ports["80"])
        self._tls = ssl.create_default_context(
            cafile=str(here.root / "etc/livebackend/tls/fullchain.pem")
        )
        self._tls.set_alpn_protocols(["http/1.1"])

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        """A connection by TLS, from an address of the loopback network."""
        plain = socket.create_connection(
            ("127.0.0.1", self.https_port), timeout=30, source_address=(address, 0)
        )
        return self._tls.wrap_socket(plain, server_hostname=HOST)

    def connect_without_tls(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._http), timeout=10)

    def call(self, address: str = "127.0.0.1", *headers: str, path: str = "/log") -> bytes:
        """What is answered to a good call, headers and body."""
        body = b"userId=13800000001&password=x"
        with self.connect(address) as connection:
            connection.sendall(post(path, len(body), *headers, "Connection: close") + body)
            return heard(connection)

    def calls_logged(self) -> int:
        return self.server.log.read_text().count('"logger":"livebackend.calls"')


def post(path: str, length: int, *headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {HOST}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def heard(connection: socket.socket) -> bytes:
    """All that comes until the other side hangs up."""
    found = b""
    with suppress(ConnectionResetError):
        while more := connection.recv(65_536):
            found += more
    return found


def is_over(connection: socket.socket) -> bool:
    """Whether the other side has hung up, or answered and hung up."""
    connection.settimeout(0.001)
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[Front]:
    settings = {
        **hardened(database_url),
        "http.trusted_proxies": "127.0.0.1",
        "http.url": f"https://{HOST}",
        "limits.login_address": "",
        "limits.codes_address": "1 per hour",
        "limits.codes_phone": "",
    }
    with ExitStack() as stack:
        here = stack.enter_context(machine(tmp_path_factory.mktemp("front")))
        folder = tmp_path_factory.mktemp("var")
        server = stack.enter_context(serving(PRODUCTION_INI, folder, settings))
        conf = here.root / "etc/nginx"
        site = (here.checkout / "deploy/nginx-site.conf").read_text()
        (conf / "conf.d/livebackend.conf").write_text(site)
        upstream = f"server 127.0.0.1:{server.port};\n"
        (conf / "livebackend-upstream.conf").write_text(upstream)
        subprocess.run([here.programs / "nginx"], check=True)
        yield Front(here, server)


@contextmanager
def others(front: Front, number: int, begin: bytes, address: str) -> Iterator[list[socket.socket]]:
    """So many connections that begin to say something, and go on slowly or not at all."""
    with ExitStack() as stack:
        connections = [stack.enter_context(front.connect(address)) for _ in range(number)]
        for connection in connections:
            connection.sendall(begin)
        yield connections


def assert_served(front: Front, address: str = "127.0.0.1") -> None:
    start = time.monotonic()
    assert b'{"result":"0007","message":null}' in front.call(address)
    assert time.monotonic() - start < 2


def test_a_good_call_goes_through(front: Front) -> None:
    said = front.call()
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"strict-transport-security: max-age=31536000" in said.lower()
    assert b"Server: nginx\r\n" in said  # without a version
    assert b"waitress" not in said


def test_without_encryption_nothing_gets_through(front: Front) -> None:
    before = front.calls_logged()
    with front.connect_without_tls() as connection:
        body = b"userId=13800000001&password=x"
        connection.sendall(post("/log", len(body), "Connection: close") + body)
        said = heard(connection)
    assert said.startswith(b"HTTP/1.1 301 ")
    assert f"Location: https://{HOST}/log".encode() in said
    assert front.calls_logged() == before


def test_the_application_itself_demands_encryption_of_its_proxy(front: Front) -> None:
    with front.server.connect() as connection:
        forwarded = ("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: http", "Connection: close")
        connection.sendall(post("/log", 0, *forwarded))
        assert b"scheme is not HTTPS" in heard(connection)


def test_an_old_protocol_is_refused(front: Front) -> None:
    for version, taken in (("-tls1_1", False), ("-tls1_2", True)):
        address = f"127.0.0.1:{front.https_port}"
        done = subprocess.run(
            ["openssl", "s_client", "-connect", address, version, "-cipher", "ALL:@SECLEVEL=0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
        assert (done.returncode == 0) is taken


def test_a_forged_address_is_not_believed(front: Front) -> None:
    def code(forged: str) -> bytes:
        body = f"token=1380000{forged[-4:]}".encode()
        with front.connect("127.0.0.9") as connection:
            headers = (f"X-Forwarded-For: 9.9.9.{forged[-1]}", "Connection: close")
            connection.sendall(post("/register", len(body), *headers) + body)
            return heard(connection)

    assert b'"result":"0000"' in code("0001")
    assert b"call was tried too often" in code("0002")


def test_two_lengths_are_one_request_or_none(front: Front) -> None:
    """A request inside the body of another one: nobody must ever see it as a second."""
    before = front.calls_logged()
    hidden = post("/friend", 5) + b"add=1"
    for order in (("Content-Length", "Transfer-Encoding"), ("Transfer-Encoding", "Content-Length")):
        lengths = {"Content-Length": str(5 + len(hidden)), "Transfer-Encoding": "chunked"}
        lines = [f"{name}: {lengths[name]}" for name in order]
        head = "\r\n".join(["POST /log HTTP/1.1", f"Host: {HOST}", *lines, "", ""]).encode()
        with front.connect() as connection:
            connection.sendall(head + b"0\r\n\r\n" + hidden)
            said = heard(connection)
        assert said.startswith(b"HTTP/1.1 400 ")
        assert said.count(b"HTTP/1.1") == 1
    assert front.calls_logged() == before


def test_bodies_that_trickle_in_stay_outside(front: Front) -> None:
    """More of them than the server has threads, from one address, for longer than any call."""
    before = front.calls_logged()
    with others(front, AT_ONCE - 5, post("/log", 1000) + b"u", "127.0.0.2") as slow:
        for _ in range(8):
            for connection in slow:
                connection.sendall(b"x")
            assert_served(front, "127.0.0.3")
            # Even the one whose connections they are has some left.
            assert_served(front, "127.0.0.2")
            time.sleep(0.5)
        assert front.calls_logged() == before + 16
    assert_served(front)


def test_a_body_that_falls_silent_is_given_up(front: Front) -> None:
    with others(front, 3, post("/log", 1000) + b"u", "127.0.0.4") as silent:
        start = time.monotonic()
        while not all(map(is_over, silent)):
            assert time.monotonic() - start < BODY_S + 5
            time.sleep(0.1)
        assert time.monotonic() - start > BODY_S - 2


def test_too_many_calls_at_once_from_one_address_are_its_own_trouble(front: Front) -> None:
    with others(front, AT_ONCE, post("/log", 1000) + b"u", "127.0.0.5"):
        deadline = time.monotonic() + 5
        while not front.call("127.0.0.5").startswith(b"HTTP/1.1 503 "):
            assert time.monotonic() < deadline
        assert_served(front, "127.0.0.6")


def test_many_that_say_nothing_keep_nobody_out_and_are_gone_in_time(front: Front) -> None:
    with (
        others(front, 200, b"", "127.0.0.7") as idle,
        others(front, 200, b"POST /log HTTP/1.1\r\nHost: ", "127.0.0.8") as halves,
    ):
        start = time.monotonic()
        for _ in range(5):
            assert_served(front)
        while not all(map(is_over, [*idle, *halves])):
            for half in halves:  # a header, too, may not trickle in without end
                with suppress(OSError):
                    half.sendall(b"x")
            assert time.monotonic() - start < HEADER_S + 10
            time.sleep(0.5)


def test_large_headers_and_bodies(front: Front) -> None:
    with front.connect() as connection:
        connection.sendall(post("/log", 0, f"X-Long: {'x' * 20_000}"))
        assert heard(connection).startswith(b"HTTP/1.1 400 ")
    with front.connect() as connection:
        connection.sendall(post("/upload", 10_000_000_000))
        assert heard(connection).startswith(b"HTTP/1.1 413 ")
    # What is too large for the API alone is refused in its own words.
    body = b"x" * 70_000
    with front.connect() as connection:
        connection.sendall(post("/log", len(body), "Connection: close") + body)
        said = heard(connection)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["result"] == "0003"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_nobodys_business_outside(path: str, front: Front) -> None:
    with front.connect() as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
        )
        assert heard(connection).startswith(b"HTTP/1.1 404 ")


def test_a_request_has_one_id_from_nginx_to_the_log(front: Front) -> None:
    said = front.call()
    head = said.partition(b"\r\n\r\n")[0].decode()
    headers = [line.partition(": ") for line in head.splitlines()]
    (name,) = [value for header, _, value in headers if header.lower() == "x-request-id"]
    deadline = time.monotonic() + 5
    while name not in front.server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_both_files_are_where_the_document_puts_them() -> None:
    document = Path(PRODUCTION_INI.parent / "docs/operations.md").read_text()
    for name in ("nginx-upstream.conf", "nginx-site.conf"):
        assert f"deploy/{name}" in document
