"""Tests of nginx with deploy/nginx-site.conf and real or fake upstream servers."""

import gzip
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Self

import pytest

from livebackend.api.operation_declaration import operations
from livebackend.api.responses import error_message
from livebackend.api.routes import PATHS
from livebackend.config.settings import Settings
from livebackend_client import Client, ServerUnavailable
from tests.support.api import App
from tests.support.application import PRODUCTION_INI
from tests.support.machine import Machine, machine
from tests.support.nginx import HOST, new_http_client, start_nginx
from tests.support.servers import Server, hardened_settings, running_server
from tests.support.upstreams import (
    OK,
    Behavior,
    ReceivedRequest,
    Upstream,
    close,
    respond,
    stay_silent,
)

CONNECTION_LIMIT = 50  # the value of limit_conn in nginx-site.conf
HEADER_TIMEOUT_S = 10  # the value of client_header_timeout in nginx-site.conf
FORM_TYPE = "application/x-www-form-urlencoded"
MULTIPART_TYPE = "multipart/form-data; boundary=b"
# The maximum depends on the path and the media type.
MAX_BODY_BYTES = {
    ("/log", FORM_TYPE): 65_536,
    ("/log", MULTIPART_TYPE): 65_536,
    ("/upload", FORM_TYPE): 65_536,
    ("/upload", "text/plain; multipart/form-data"): 65_536,
    ("/upload", MULTIPART_TYPE): 6_291_456,
    ("/upload", MULTIPART_TYPE.upper()): 6_291_456,
}
BODY_TIMEOUT_S = 10  # the value of client_body_timeout in nginx-site.conf

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


class Nginx:
    """Client of an nginx that runs with deploy/nginx-site.conf."""

    def __init__(self, test_machine: Machine) -> None:
        self.https_port, self._http = int(test_machine.ports["443"]), int(test_machine.ports["80"])
        self.certificate = test_machine.root / "etc/livebackend/tls/fullchain.pem"
        self._tls = ssl.create_default_context(cafile=str(self.certificate))
        self._tls.set_alpn_protocols(["http/1.1"])

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        """Open a TLS connection to nginx from a loopback address."""
        plain = socket.create_connection(
            ("127.0.0.1", self.https_port), timeout=30, source_address=(address, 0)
        )
        return self._tls.wrap_socket(plain, server_hostname=HOST)

    def connect_without_tls(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._http), timeout=10)

    def get(self, path: str, *headers: str) -> "Response":
        lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}", "Connection: close", *headers]
        with self.connect() as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            return Response.parse(read_all(connection))

    def send_valid_request(
        self, address: str = "127.0.0.1", *headers: str, path: str = "/log"
    ) -> bytes:
        """Send a valid request; return the response including its headers."""
        body = b"userId=13800000001&password=x"
        with self.connect(address) as connection:
            connection.sendall(post_head(path, len(body), *headers, "Connection: close") + body)
            return read_all(connection)


class NginxWithServer(Nginx):
    """Client of an nginx in front of a livebackend server."""

    def __init__(self, test_machine: Machine, server: Server) -> None:
        super().__init__(test_machine)
        self.server = server

    def logged_requests(self) -> int:
        return self.server.read_log().count('"logger":"livebackend.access"')


def post_head(
    path: str, body_length: int | None, *headers: str, content_type: str = FORM_TYPE
) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {HOST}",
        f"Content-Type: {content_type}",
        *([f"Content-Length: {body_length}"] if body_length is not None else []),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection; return the received bytes."""
    received_bytes = b""
    with suppress(ConnectionResetError):
        while chunk := connection.recv(65_536):
            received_bytes += chunk
    return received_bytes


def decode_chunked(body: bytes) -> bytes:
    """Decode a body with chunked transfer coding."""
    decoded_body = b""
    while body:
        chunk_length, _, body = body.partition(b"\r\n")
        decoded_body += body[: int(chunk_length, 16)]
        body = body[int(chunk_length, 16) + 2 :]
    return decoded_body


def is_closed(connection: socket.socket) -> bool:
    """Discard received bytes; return whether the server has closed the connection."""
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
def nginx(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[NginxWithServer]:
    settings = {
        **hardened_settings(database_url),
        "http.trusted_proxies": "127.0.0.1",
        "http.public_url": f"https://{HOST}",
        # The tests log in often.
        "limits.login_address": "",
        "limits.login_new_addresses": "",
        "limits.password_hashes_account": "",
        "limits.password_hashes_address": "",
        "limits.sms_address": "1 per hour",
        "limits.sms_phone": "",
    }
    with ExitStack() as stack:
        test_machine = stack.enter_context(machine(tmp_path_factory.mktemp("nginx")))
        folder = tmp_path_factory.mktemp("var")
        server = stack.enter_context(running_server(PRODUCTION_INI, folder, settings))
        start_nginx(test_machine, f"server 127.0.0.1:{server.port};\n")
        yield NginxWithServer(test_machine, server)


@contextmanager
def open_connections(
    nginx: Nginx, connection_count: int, request_start: bytes, client_address: str
) -> Iterator[list[socket.socket]]:
    """Open `connection_count` connections, send `request_start` on each; yield them."""
    with ExitStack() as stack:
        connections = [
            stack.enter_context(nginx.connect(client_address)) for _ in range(connection_count)
        ]
        for connection in connections:
            connection.sendall(request_start)
        yield connections


def assert_served(nginx: NginxWithServer, address: str = "127.0.0.1") -> None:
    start = time.monotonic()
    assert b'{"result":"0007","message":null}' in nginx.send_valid_request(address)
    assert time.monotonic() - start < 2


def test_valid_request_over_https_is_served(nginx: NginxWithServer) -> None:
    response = nginx.send_valid_request()
    assert response.startswith(b"HTTP/1.1 200 "), response
    assert b"strict-transport-security: max-age=31536000" in response.lower()
    assert b"Server: nginx\r\n" in response  # the header must not contain a version
    assert b"granian" not in response


def test_plain_http_request_is_redirected_and_not_forwarded(nginx: NginxWithServer) -> None:
    requests_before = nginx.logged_requests()
    with nginx.connect_without_tls() as connection:
        body = b"userId=13800000001&password=x"
        connection.sendall(post_head("/log", len(body), "Connection: close") + body)
        response = read_all(connection)
    assert response.startswith(b"HTTP/1.1 301 ")
    assert f"Location: https://{HOST}/log".encode() in response
    assert nginx.logged_requests() == requests_before


def test_application_rejects_a_request_that_its_proxy_received_over_http(
    nginx: NginxWithServer,
) -> None:
    with nginx.server.connect() as connection:
        forwarded_headers = (
            "X-Forwarded-For: 1.2.3.4",
            "X-Forwarded-Proto: http",
            "Connection: close",
        )
        connection.sendall(post_head("/log", 0, *forwarded_headers))
        assert b"scheme; reason=https_required" in read_all(connection)


def test_tls_1_1_is_rejected_and_tls_1_2_is_accepted(nginx: NginxWithServer) -> None:
    for version, is_accepted in (("-tls1_1", False), ("-tls1_2", True)):
        address = f"127.0.0.1:{nginx.https_port}"
        completed = subprocess.run(
            ["openssl", "s_client", "-connect", address, version, "-cipher", "ALL:@SECLEVEL=0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
        assert (completed.returncode == 0) is is_accepted


@pytest.mark.parametrize(
    ("address", "header"),
    [
        ("127.0.0.9", "X-Forwarded-For"),
        ("127.0.0.10", "X_Forwarded_For"),
        ("127.0.0.11", "X-Forwarded_For"),
    ],
)
def test_forged_forwarded_address_does_not_evade_the_rate_limit(
    address: str, header: str, nginx: NginxWithServer
) -> None:
    def request_code(last_digit: str) -> bytes:
        body = f"token=138{address[-2:].replace('.', '0')}00000{last_digit}".encode()
        with nginx.connect(address) as connection:
            headers = (f"{header}: 9.9.9.{last_digit}", "Connection: close")
            connection.sendall(post_head("/register", len(body), *headers) + body)
            return read_all(connection)

    assert b'"result":"0000"' in request_code("1")
    assert b"request; reason=rate_limited" in request_code("2")


def test_request_with_two_body_lengths_is_rejected(nginx: NginxWithServer) -> None:
    """The body contains a second request, as in an attack by HTTP request smuggling."""
    requests_before = nginx.logged_requests()
    hidden_request = post_head("/friend", 5) + b"add=1"
    for header_order in (
        ("Content-Length", "Transfer-Encoding"),
        ("Transfer-Encoding", "Content-Length"),
    ):
        length_headers = {
            "Content-Length": str(5 + len(hidden_request)),
            "Transfer-Encoding": "chunked",
        }
        lines = [f"{name}: {length_headers[name]}" for name in header_order]
        head = "\r\n".join(["POST /log HTTP/1.1", f"Host: {HOST}", *lines, "", ""]).encode()
        with nginx.connect() as connection:
            connection.sendall(head + b"0\r\n\r\n" + hidden_request)
            response = read_all(connection)
        assert response.startswith(b"HTTP/1.1 400 ")
        assert response.count(b"HTTP/1.1") == 1
    assert nginx.logged_requests() == requests_before


def test_slow_request_bodies_do_not_block_other_requests(nginx: NginxWithServer) -> None:
    """The test sends more slow requests than the server has threads."""
    requests_before = nginx.logged_requests()
    with open_connections(
        nginx, CONNECTION_LIMIT - 5, post_head("/log", 1000) + b"u", "127.0.0.2"
    ) as slow_connections:
        for _ in range(8):
            for connection in slow_connections:
                connection.sendall(b"x")
            assert_served(nginx, "127.0.0.3")
            # The client of the slow requests is below the connection limit, so its other requests
            # are served too.
            assert_served(nginx, "127.0.0.2")
            time.sleep(0.5)
        assert nginx.logged_requests() == requests_before + 16
    assert_served(nginx)


def test_connection_with_a_stalled_body_is_closed(nginx: NginxWithServer) -> None:
    with open_connections(nginx, 3, post_head("/log", 1000) + b"u", "127.0.0.4") as stalled:
        start = time.monotonic()
        while not all(map(is_closed, stalled)):
            assert time.monotonic() - start < BODY_TIMEOUT_S + 5
            time.sleep(0.1)
        assert time.monotonic() - start > BODY_TIMEOUT_S - 2


def test_connection_limit_of_one_address_does_not_affect_other_addresses(
    nginx: NginxWithServer,
) -> None:
    with open_connections(nginx, CONNECTION_LIMIT, post_head("/log", 1000) + b"u", "127.0.0.5"):
        deadline = time.monotonic() + 5
        while not nginx.send_valid_request("127.0.0.5").startswith(b"HTTP/1.1 503 "):
            assert time.monotonic() < deadline
        assert_served(nginx, "127.0.0.6")


def test_idle_connections_block_no_requests_and_are_closed_after_the_timeout(
    nginx: NginxWithServer,
) -> None:
    with (
        open_connections(nginx, 200, b"", "127.0.0.7") as idle_connections,
        open_connections(
            nginx, 200, b"POST /log HTTP/1.1\r\nHost: ", "127.0.0.8"
        ) as half_sent_connections,
    ):
        start = time.monotonic()
        for _ in range(5):
            assert_served(nginx)
        while not all(map(is_closed, [*idle_connections, *half_sent_connections])):
            # Header bytes that arrive slowly must not extend the timeout.
            for connection in half_sent_connections:
                with suppress(OSError):
                    connection.sendall(b"x")
            assert time.monotonic() - start < HEADER_TIMEOUT_S + 10
            time.sleep(0.5)


def test_too_large_headers_and_bodies_are_rejected(nginx: NginxWithServer) -> None:
    with nginx.connect() as connection:
        connection.sendall(post_head("/log", 0, f"X-Long: {'x' * 20_000}"))
        assert read_all(connection).startswith(b"HTTP/1.1 431 ")
    for (path, content_type), max_bytes in MAX_BODY_BYTES.items():
        for length in (max_bytes + 1, 10_000_000_000):
            with nginx.connect() as connection:
                connection.sendall(
                    post_head(path, length, "Connection: close", content_type=content_type)
                )
                head, _, body = read_all(connection).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413 ")
            assert f"X-Error: body; reason=too_large; max={max_bytes}".encode() in head
            assert json.loads(body) == {"result": "0003", "message": None}


@pytest.mark.parametrize(("path", "content_type"), MAX_BODY_BYTES)
def test_chunked_body_over_the_limit_is_rejected(
    path: str, content_type: str, nginx: NginxWithServer
) -> None:
    max_bytes = MAX_BODY_BYTES[path, content_type]
    chunk = b"%x\r\n" % (max_bytes + 1) + b"x" * (max_bytes + 1)
    with nginx.connect() as connection:
        head = post_head(
            path,
            None,
            "Transfer-Encoding: chunked",
            "Connection: close",
            content_type=content_type,
        )
        connection.sendall(head + chunk)
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_body_limits_of_nginx_are_those_of_the_application() -> None:
    site_config = PRODUCTION_INI.with_name("deploy").joinpath("nginx-site.conf").read_text()
    sizes = re.findall("client_max_body_size ([0-9]+)([km]);", site_config)
    nginx_limits = [int(number) * {"k": 1024, "m": 1024**2}[unit] for number, unit in sizes]
    settings = Settings.fields_by_name()
    names = ("http.max_body_bytes", "http.max_upload_bytes")
    assert nginx_limits == sorted(set(MAX_BODY_BYTES.values()))
    assert nginx_limits == [settings[name].default for name in names]


def test_limits_of_event_streams_are_the_defaults_of_the_settings() -> None:
    deploy = PRODUCTION_INI.with_name("deploy")
    site_config = (deploy / "nginx-site.conf").read_text()
    events_config = (deploy / "nginx-events.conf").read_text()
    nginx_limits = [
        *re.findall("limit_conn livebackend_event_(?:accounts|addresses) ([0-9]+);", site_config),
        *re.findall("nchan_message_timeout ([0-9]+)s;", events_config),
    ]
    settings = Settings.fields_by_name()
    names = ("events.max_streams_account", "events.max_streams_address", "events.replay_s")
    assert list(map(int, nginx_limits)) == [settings[name].default for name in names]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_endpoints_are_not_accessible_through_nginx(
    path: str, nginx: NginxWithServer
) -> None:
    with nginx.connect() as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
        )
        assert read_all(connection).startswith(b"HTTP/1.1 404 ")


def test_request_id_in_the_response_is_in_the_server_log(nginx: NginxWithServer) -> None:
    response = nginx.send_valid_request()
    head = response.partition(b"\r\n\r\n")[0].decode()
    headers = [line.partition(": ") for line in head.splitlines()]
    (request_id,) = [value for name, _, value in headers if name.lower() == "x-request-id"]
    deadline = time.monotonic() + 5
    while request_id not in nginx.server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_static_script_is_compressed(nginx: NginxWithServer) -> None:
    docs_html = nginx.get("/docs").body.decode()
    script_path = re.sub(
        "docs/docs.js$", "vendor/hls.js", re.findall('src="(.*?docs.js)"', docs_html)[0]
    )
    plain_response = nginx.get(f"/{script_path}")
    assert "content-encoding" not in plain_response.headers
    compressed_response = nginx.get(f"/{script_path}", "Accept-Encoding: gzip")
    assert compressed_response.headers["content-encoding"] == "gzip"
    assert (
        compressed_response.headers["vary"] == plain_response.headers["vary"] == "Accept-Encoding"
    )
    assert compressed_response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert len(compressed_response.body) < len(plain_response.body) / 2
    assert gzip.decompress(decode_chunked(compressed_response.body)) == plain_response.body


def test_api_response_is_never_compressed(nginx: NginxWithServer) -> None:
    response = nginx.send_valid_request("127.0.0.1", "Accept-Encoding: gzip")
    assert b"content-type: application/json" in response.lower()
    assert b"content-encoding" not in response.lower()


# Result code and message in the envelope of a 503 response, for each path of the API.
UNAVAILABLE_ENVELOPES = {
    "/register": ("0006", None),
    "/upload": ("0006", None),
    "/log": ("0008", None),
    "/room": ("0009", None),
    "/list": ("0006", None),
    "/friend": ("0006", None),
    "/golden": ("0013", "update failed"),
    "/events": ("0009", None),
}
# Headers of every error response that nginx itself generates; X-Request-Id is checked separately.
ERROR_HEADERS = {
    "cache-control": "no-store",
    "content-type": "application/json",
    "x-content-type-options": "nosniff",
    "strict-transport-security": "max-age=31536000",
}
# Shortens the read timeouts of nginx-site.conf, because tests wait until they expire.
SHORT_READ_TIMEOUTS = [
    (f"proxy_read_timeout {timeout};", "proxy_read_timeout 300ms;") for timeout in ("35s", "5s")
]


@dataclass(frozen=True)
class Response:
    """A response that a client received from nginx."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def parse(cls, response_bytes: bytes) -> Self:
        head, _, body = response_bytes.partition(b"\r\n\r\n")
        status, *lines = head.decode().splitlines()
        header_pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in header_pairs}
        assert len(headers) == len(header_pairs), f"the response repeats a header: {header_pairs}"
        return cls(int(status.split(" ")[1]), headers, body)


class NginxWithUpstreams(Nginx):
    """Client of an nginx in front of two fake servers that fail on demand."""

    def __init__(self, test_machine: Machine, first: Upstream, second: Upstream) -> None:
        super().__init__(test_machine)
        self.first, self.second = first, second
        self.event_engine = Upstream(test_machine.ports["6548"])
        self.body_folder = test_machine.root / "nginx/body"
        self.error_log = test_machine.root / "nginx/error.log"
        self.curlrc_folder = test_machine.root

    def reset(self) -> None:
        """Make both fake servers listen and respond with success."""
        for upstream in (self.first, self.second):
            upstream.behavior = respond(OK)
            upstream.received.clear()
            upstream.listen()

    def set_behavior_of_both(self, behavior: Behavior) -> None:
        self.first.behavior = self.second.behavior = behavior

    def stop_listening(self) -> None:
        self.first.stop_listening()
        self.second.stop_listening()

    @property
    def received(self) -> list[ReceivedRequest]:
        return [*self.first.received, *self.second.received]

    def post(
        self,
        path: str,
        body: bytes = b"a=b",
        address: str = "127.0.0.1",
        *,
        content_type: str = FORM_TYPE,
    ) -> Response:
        head = post_head(path, len(body), "Connection: close", content_type=content_type)
        with self.connect(address) as connection:
            connection.sendall(head + body)
            return Response.parse(read_all(connection))


@pytest.fixture(scope="module")
def running_upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxWithUpstreams]:
    with machine(tmp_path_factory.mktemp("upstreams")) as test_machine:
        first_upstream, second_upstream = (
            Upstream(test_machine.ports[name]) for name in ("6543", "6553")
        )
        upstream = (test_machine.checkout / "deploy/nginx-upstream.conf").read_text()
        start_nginx(test_machine, upstream, *SHORT_READ_TIMEOUTS)
        upstreams = NginxWithUpstreams(test_machine, first_upstream, second_upstream)
        try:
            yield upstreams
        finally:
            upstreams.stop_listening()
            upstreams.event_engine.stop_listening()


@pytest.fixture
def upstreams(running_upstreams: NginxWithUpstreams) -> NginxWithUpstreams:
    running_upstreams.reset()
    return running_upstreams


def assert_unavailable(response: Response, path: str, outcome: str | None) -> None:
    """Check the status, headers and envelope of a 503 response of nginx."""
    assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert_error_headers(response)
    assert response.headers["retry-after"] == "1"
    assert response.headers.get("x-request-outcome") == outcome
    code, message = UNAVAILABLE_ENVELOPES.get(path, ("0003", None))
    assert json.loads(response.body) == {"result": code, "message": message}


def assert_error_headers(response: Response) -> None:
    """Check the headers that all error responses of nginx have."""
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
    assert {name: response.headers.get(name) for name in ERROR_HEADERS} == ERROR_HEADERS


def assert_rejected(response: Response, status: int) -> None:
    """Check the response of nginx to a request that is not a valid API request."""
    assert response.status == status
    assert_error_headers(response)
    assert not {"retry-after", "x-request-outcome"} & response.headers.keys()
    assert json.loads(response.body) == {"result": "0003", "message": None}


def test_every_api_path_has_an_envelope_for_503() -> None:
    assert set(UNAVAILABLE_ENVELOPES) == {f"/{path}" for path in PATHS}


def test_envelope_of_a_503_has_the_default_error_of_an_operation_of_its_path(
    new_app: Callable[..., App],
) -> None:
    declared = operations(new_app().registry)
    for path, envelope in UNAVAILABLE_ENVELOPES.items():
        default_errors = {
            entry.default_error for entry in declared if path.removeprefix("/") in entry.routes
        }
        assert envelope in {(error.code, error_message(error)) for error in default_errors}


def http_request(start_line: str, *headers: str) -> bytes:
    lines = [start_line, f"Host: {HOST}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


REJECTED_REQUESTS = {
    "too large body": (413, post_head("/golden", 10_000_000_000)),
    "too large chunked body": (
        413,
        http_request("POST /upload HTTP/1.1", "Transfer-Encoding: chunked")
        + b"900000\r\n"
        + b"x" * 0x900000
        + b"\r\n0\r\n\r\n",
    ),
    "too long header": (431, post_head("/log", 0, f"X-Long: {'x' * 20_000}")),
    "too long path": (414, post_head(f"/{'x' * 20_000}", 0)),
    "no HTTP": (400, b"\x16\x03nonsense\r\n\r\n"),
    "no host": (400, b"POST /log HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    "invalid host": (400, b"POST /log HTTP/1.1\r\nHost: a b\r\nContent-Length: 0\r\n\r\n"),
    "invalid path": (400, post_head("/%zz", 0)),
    "two body lengths": (400, post_head("/log", 5, "Transfer-Encoding: chunked")),
    "unknown coding": (501, http_request("POST /log HTTP/1.1", "Transfer-Encoding: xchunked")),
    "TRACE": (405, http_request("TRACE /log HTTP/1.1")),
    "HTTP/3.0": (505, http_request("POST /log HTTP/3.0")),
    "health check": (404, http_request("GET /healthz HTTP/1.1")),
    "internal path": (404, http_request("GET /rejected HTTP/1.1")),
}


@pytest.mark.parametrize("name", REJECTED_REQUESTS)
def test_request_that_nginx_rejects_gets_an_envelope_and_no_server_receives_it(
    name: str, upstreams: NginxWithUpstreams
) -> None:
    status, request = REJECTED_REQUESTS[name]
    with upstreams.connect() as connection:
        with suppress(OSError):  # nginx closes the connection before it has read a large body
            connection.sendall(request)
        assert_rejected(Response.parse(read_all(connection)), status)
    assert upstreams.received == []


def test_request_without_tls_to_the_https_port_is_rejected(upstreams: NginxWithUpstreams) -> None:
    with socket.create_connection(("127.0.0.1", upstreams.https_port), timeout=10) as connection:
        connection.sendall(post_head("/golden", 0))
        assert_rejected(Response.parse(read_all(connection)), 400)


@pytest.mark.parametrize("path", [*UNAVAILABLE_ENVELOPES, "/payments"])
def test_request_that_the_server_closes_without_a_response_has_unknown_outcome(
    path: str, upstreams: NginxWithUpstreams
) -> None:
    upstreams.set_behavior_of_both(close)
    response = upstreams.post(path)
    assert_unavailable(response, path, "unknown")
    (received,) = upstreams.received
    assert (received.path, received.body) == (path, b"a=b")
    assert response.headers["x-request-id"] == received.headers["x-request-id"]


@pytest.mark.parametrize("path", [*UNAVAILABLE_ENVELOPES, "/payments"])
def test_request_while_no_server_listens_is_rejected_without_an_outcome_header(
    path: str, upstreams: NginxWithUpstreams
) -> None:
    upstreams.stop_listening()
    assert_unavailable(upstreams.post(path), path, None)


def test_request_that_one_server_refuses_and_the_other_closes_has_unknown_outcome(
    upstreams: NginxWithUpstreams,
) -> None:
    upstreams.first.stop_listening()
    upstreams.set_behavior_of_both(close)
    for _ in range(4):
        assert_unavailable(upstreams.post("/golden"), "/golden", "unknown")


@pytest.mark.parametrize("path", [*UNAVAILABLE_ENVELOPES, "/payments"])
def test_request_to_a_silent_server_has_unknown_outcome(
    path: str, upstreams: NginxWithUpstreams
) -> None:
    upstreams.set_behavior_of_both(stay_silent)
    assert_unavailable(upstreams.post(path), path, "unknown")
    assert len(upstreams.received) == 1


def test_response_that_ends_in_its_headers_has_unknown_outcome(
    upstreams: NginxWithUpstreams,
) -> None:
    upstreams.set_behavior_of_both(respond(b"HTTP/1.1 200 OK\r\nContent-Le"))
    assert_unavailable(upstreams.post("/golden"), "/golden", "unknown")


def test_path_with_escapes_and_a_query_gets_the_envelope_of_its_path(
    upstreams: NginxWithUpstreams,
) -> None:
    upstreams.set_behavior_of_both(close)
    assert_unavailable(upstreams.post("/%67olden?a=b"), "/golden", "unknown")


def test_error_response_for_a_file_path_is_json(upstreams: NginxWithUpstreams) -> None:
    upstreams.set_behavior_of_both(close)
    assert_unavailable(upstreams.post("/pictures/a.jpg"), "/pictures/a.jpg", "unknown")


def test_error_log_contains_no_ticket_of_an_event_stream(upstreams: NginxWithUpstreams) -> None:
    """nginx logs the request line and the header Referer of each failed request."""
    log_size = upstreams.error_log.stat().st_size
    accepted = b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /_events/user.7\r\n\r\n"
    for behavior in (close, stay_silent, respond(accepted)):
        upstreams.set_behavior_of_both(behavior)
        referer = f"Referer: https://{HOST}/events?ticket=a-ticket"
        response = upstreams.get("/events?ticket=a-ticket", referer)
        assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
        assert response.headers["retry-after"] == "10"
    upstreams.stop_listening()
    assert upstreams.get("/events?ticket=a-ticket").status == HTTPStatus.SERVICE_UNAVAILABLE
    # Other requests are logged.
    upstreams.post("/golden")
    new_lines = upstreams.error_log.read_text()[log_size:]
    assert "POST /golden" in new_lines
    assert "a-ticket" not in new_lines


def test_event_engine_gets_no_header_body_or_query_of_a_client(
    upstreams: NginxWithUpstreams,
) -> None:
    accepted = b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /_events/user.7?last=1:0\r\n\r\n"
    upstreams.set_behavior_of_both(respond(accepted))
    engine = upstreams.event_engine
    engine.behavior = respond(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    engine.listen()
    headers = ["If-None-Match: 1:0", "Last-Event-ID: 1:0", "Origin: null", "Content-Length: 0"]
    response = upstreams.get("/events?ticket=a&last_event_id=1:0", *headers)
    # The secret is wrong, and not the ticket.
    assert (response.status, response.headers["retry-after"]) == (503, "10")
    (received,) = engine.received
    assert received.path == "/_events/user.7"
    assert received.headers.keys() == {"host", "accept", "authorization"}


def test_http2_client_receives_the_same_error_response(upstreams: NginxWithUpstreams) -> None:
    upstreams.set_behavior_of_both(close)
    completed = subprocess.run(
        ["curl", "--http2", "--silent", "--include", f"https://{HOST}/golden", "--data", "a=b"],
        env={"CURL_HOME": str(upstreams.curlrc_folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=10,
        check=True,
    )
    assert completed.stdout.startswith(b"HTTP/2 503")
    assert_unavailable(Response.parse(completed.stdout), "/golden", "unknown")


def test_body_that_nginx_cannot_store_is_rejected_without_an_outcome_header(
    upstreams: NginxWithUpstreams,
) -> None:
    """Remove nginx's body folder; the effect is the same as that of a full disk.

    nginx fails before it contacts a server.
    """
    moved_folder = upstreams.body_folder.rename(upstreams.body_folder.with_name("moved"))
    try:
        response = upstreams.post("/upload", b"x" * 100_000, content_type=MULTIPART_TYPE)
    finally:
        moved_folder.rename(upstreams.body_folder)
    assert_unavailable(response, "/upload", None)
    assert upstreams.received == []


def test_request_over_the_connection_limit_is_rejected_without_an_outcome_header(
    upstreams: NginxWithUpstreams,
) -> None:
    with open_connections(
        upstreams, CONNECTION_LIMIT, post_head("/log", 1000) + b"u", "127.0.0.10"
    ):
        deadline = time.monotonic() + 5
        while upstreams.post("/log", address="127.0.0.10").status != HTTPStatus.SERVICE_UNAVAILABLE:
            assert time.monotonic() < deadline
        upstreams.reset()
        for path in [*UNAVAILABLE_ENVELOPES, "/payments"]:
            assert_unavailable(upstreams.post(path, address="127.0.0.10"), path, None)
    assert upstreams.received == []


def test_request_over_the_rate_limit_is_rejected_without_an_outcome_header(
    upstreams: NginxWithUpstreams,
) -> None:
    request = post_head("/golden", 3) + b"a=b"
    last_request = post_head("/golden", 3, "Connection: close") + b"a=b"
    with upstreams.connect("127.0.0.11") as connection:
        connection.sendall(request * 399 + last_request)
        response_texts = re.split(rb"(?=HTTP/1\.1 )", read_all(connection))[1:]
    responses = [Response.parse(response) for response in response_texts]
    rejected = [response for response in responses if response.status != HTTPStatus.OK]
    assert rejected
    for response in rejected:
        assert_unavailable(response, "/golden", None)
    assert len(responses) == 400
    assert len(upstreams.received) == 400 - len(rejected)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_error_response_of_the_application_passes_unchanged(
    status: int, upstreams: NginxWithUpstreams
) -> None:
    body = b'{"result":"0006","message":null}'
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "retry-after": "7",
        "x-request-id": "id-of-the-application",
        "x-retry-request-id": "r1",
    }
    lines = [f"HTTP/1.1 {status} Error", *(f"{name}: {headers[name]}" for name in headers)]
    upstreams.set_behavior_of_both(respond("\r\n".join([*lines, "", ""]).encode() + body))
    response = upstreams.post("/golden")
    assert response.status == status
    assert response.body == body
    assert response.headers.items() - headers.items() == {
        ("server", "nginx"),
        ("connection", "close"),
        ("date", response.headers["date"]),
    }
    assert len(upstreams.received) == 1


@pytest.mark.parametrize("failing_behavior", [close, stay_silent])
def test_post_request_that_reached_one_server_is_not_sent_to_the_other(
    failing_behavior: Behavior, upstreams: NginxWithUpstreams
) -> None:
    upstreams.first.behavior = failing_behavior
    bodies = [f"requestId={number}".encode() for number in range(6)]
    statuses = {body: upstreams.post("/golden", body).status for body in bodies}
    failed_bodies = [received.body for received in upstreams.first.received]
    served_bodies = [received.body for received in upstreams.second.received]
    # nginx alternates between the two servers.
    assert len(failed_bodies) == len(served_bodies) == 3
    assert sorted(failed_bodies + served_bodies) == bodies
    expected_statuses = dict.fromkeys(failed_bodies, HTTPStatus.SERVICE_UNAVAILABLE)
    assert statuses == expected_statuses | dict.fromkeys(served_bodies, HTTPStatus.OK)


def test_server_that_refuses_the_connection_is_skipped(upstreams: NginxWithUpstreams) -> None:
    upstreams.first.stop_listening()
    for _ in range(6):
        assert upstreams.post("/golden").status == HTTPStatus.OK
    assert len(upstreams.second.received) == 6


def test_server_receives_requests_as_soon_as_it_listens_again(
    upstreams: NginxWithUpstreams,
) -> None:
    upstreams.first.stop_listening()
    for _ in range(4):
        upstreams.post("/golden")
    upstreams.first.listen()
    upstreams.second.stop_listening()
    assert upstreams.post("/golden").status == HTTPStatus.OK


def test_python_client_reports_an_unknown_outcome(upstreams: NginxWithUpstreams) -> None:
    upstreams.set_behavior_of_both(close)
    with new_http_client(upstreams.certificate) as http_client:
        address = f"https://127.0.0.1:{upstreams.https_port}"
        client = Client(address, token="t", http_client=http_client, max_attempts=2)
        with pytest.raises(ServerUnavailable) as error:
            client.send_gift(value=1, object="13800000002", description="rose")
    assert error.value.outcome_unknown is True
    assert error.value.code == "0013"
    assert error.value.retry_after_s == 1
    # The client made two attempts, and nginx sent each of them to a server only once.
    first_request, second_request = upstreams.received
    assert first_request.body == second_request.body
    assert b"requestId=" in first_request.body


def test_operations_document_mentions_both_nginx_files() -> None:
    document = Path(PRODUCTION_INI.parent / "docs/operations.md").read_text()
    for name in ("nginx-upstream.conf", "nginx-site.conf"):
        assert f"deploy/{name}" in document
