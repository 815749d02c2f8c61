"""Starts event engines with a server: the event server of livebackend, and nginx with Nchan."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any

import requests

from livebackend.core.signing import derived_key
from livebackend.development.event_server.options import EventServerOptions
from livebackend.development.local_events import LocalEvents
from livebackend.gateways.events.http_engine import HttpEventEngine
from livebackend.gateways.events.nchan import NchanEvents
from livebackend.gateways.events.protocol import EventEngine, EventsFailed
from livebackend.services.login_tokens import LoginTokens
from tests.support.api import PASSWORD
from tests.support.application import DEVELOPMENT_INI, DEVELOPMENT_SECRET, PRODUCTION_INI
from tests.support.event_streams import StreamClient
from tests.support.machine import free_ports
from tests.support.servers import (
    HARDENED_SECRET,
    Server,
    hardened_settings,
    running_server,
    start_server,
    wait_until_up,
)
from tests.support.waiting import wait_until

NGINX = "/usr/sbin/nginx"
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
PUBLISH_SECRET = "a-secret-of-nginx-that-is-long-enough-too"
PUBLIC_URL = "https://live.example"
_MAX_STREAMS_ACCOUNT = 5
# A lower limit of streams of a client address than in production: a test reaches it.
MAX_STREAMS_ADDRESS = 40
_DEPLOY = DEVELOPMENT_INI.parent / "deploy"
_NGINX_CONF = """\
load_module {module};
daemon off; worker_processes 2; pid nginx.pid; error_log error.log notice;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
    access_log access.log;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include {folder}/livebackend.conf; include {folder}/events.conf;
}}
"""


def has_nchan() -> bool:
    return Path(NGINX).exists() and NCHAN_MODULE.exists() and bool(shutil.which("openssl"))


def has_redis() -> bool:
    return shutil.which("redis-server") is not None


@dataclass
class NginxNode:
    """An nginx with deploy/nginx-site.conf and deploy/nginx-events.conf."""

    folder: Path
    https_port: int
    publish_port: int
    stream_port: int
    process: subprocess.Popen[bytes]

    def processes(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def logs(self) -> str:
        files = (self.folder / name for name in ("access.log", "error.log"))
        return "".join(file.read_text(errors="replace") for file in files)

    def kill(self) -> None:
        for pid in [self.process.pid, *self.processes()]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def start(self) -> None:
        """Start nginx after it was killed."""
        self.process = _start_nginx(self.folder)

    def restart(self) -> None:
        self.kill()
        self.start()


@dataclass
class RunningEngine:
    """An event engine, and a livebackend that uses it."""

    server: Server
    # Publishes as livebackend does, at another node than that of the clients if there are two.
    engine: HttpEventEngine
    # The engine to which the clients connect; another node than that of `engine` if there are two.
    client_engine: HttpEventEngine
    # The URL to which `engine` publishes.
    publish_url: str
    # The secret that signs tickets.
    secret: str
    restart: Callable[[], None]
    # Kills livebackend and its workers, and starts it again.
    restart_server: Callable[[], None]
    process_ids: Callable[[], Sequence[int]]
    # Yields an engine and a client that receives several channels, without a ticket.
    open_channels: Callable[[str], AbstractContextManager[tuple[EventEngine, StreamClient]]]
    # The nodes of nginx; empty without nginx.
    nodes: Sequence[NginxNode] = ()
    ca_file: str | None = None
    logs: Callable[[], str] = field(default=lambda: "")

    @property
    def https_ports(self) -> list[int]:
        return [node.https_port for node in self.nodes]

    def post(self, path: str, **form: str) -> Any:
        """Send a request to livebackend, as nginx does."""
        headers = {"X-Forwarded-Proto": "https"} if self.https_ports else {}
        url = f"{self.server.address}{path}"
        return requests.post(url, data=form, headers=headers, timeout=10).json()

    def new_user(self) -> "StreamUser":
        phone = f"138{time.monotonic_ns() // 1000 % 10**8:08}"
        form = {"userId": phone, "password": PASSWORD}
        assert self.post("/register", register="1", **form)["result"] == "0000"
        token = self.post("/log", **form)["message"]
        return StreamUser(self, phone, token)

    def reachable_url(self, url: str, node: int = -1) -> str:
        """Return the URL of a stream at a node, by default the last one."""
        if not self.https_ports:
            return url
        assert url.startswith(PUBLIC_URL)
        return url.replace(PUBLIC_URL, f"https://127.0.0.1:{self.https_ports[node]}")

    def memory_bytes(self) -> int:
        """Return the resident memory of the engine's processes."""
        total = 0
        for pid in self.process_ids():
            with suppress(FileNotFoundError):
                status = Path(f"/proc/{pid}/statm").read_text().split()
                total += (int(status[1]) - int(status[2])) * os.sysconf("SC_PAGE_SIZE")
        return total

    def wait_until_ready(self) -> None:
        for engine in (self.engine, self.client_engine):
            wait_until(partial(_is_ready, engine), 20, "the event engine to be ready")


@dataclass(frozen=True)
class StreamUser:
    """A user of a RunningEngine."""

    running: RunningEngine
    phone: str
    token: str

    @property
    def channel(self) -> str:
        return f"user.{self.account_id}"

    @property
    def account_id(self) -> int:
        """The account id, which the login token contains."""
        return LoginTokens([self.running.secret], clock=time.time).read(self.token).account_id

    def stream_url(self) -> str:
        response = self.running.post("/events", ticket="1", token=self.token)
        assert response["result"] == "0000", response
        return self.running.reachable_url(response["message"]["url"])

    def open(
        self,
        last_event_id: str = "",
        url: str = "",
        *,
        last_seq: int = 0,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> StreamClient:
        """Open a stream. It contains the events since its ticket was issued."""
        return StreamClient(
            url or self.stream_url(),
            self.running.ca_file,
            last_event_id,
            last_seq=last_seq,
            headers=headers,
        )

    def wait_for_subscriptions(self, count: int) -> None:
        """Wait until the engine has this number of subscriptions of the user."""
        engine = self.running.engine
        wait_until(lambda: engine.subscribers(self.channel) == count, 10, f"{count} subscriptions")


def _is_ready(engine: EventEngine) -> bool:
    try:
        engine.subscribers("user.1")
    except EventsFailed:
        return False
    return True


@contextmanager
def local_engine(
    folder: Path, database_url: str, *, changed_settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[RunningEngine]:
    """Run a livebackend whose event server is its child process."""
    (port,) = free_ports(1)
    settings = {
        "database.url": database_url,
        "events.gateway": "livebackend.development.local_events.LocalEvents",
        "events.address": f"127.0.0.1:{port}",
        "events.max_streams_address": str(MAX_STREAMS_ADDRESS),
        "server.workers": "2",
        **changed_settings,
    }
    with ExitStack() as stack:
        server = stack.enter_context(running_server(DEVELOPMENT_INI, folder, settings))
        publish_url = f"http://127.0.0.1:{port}"
        engine = HttpEventEngine(publish_url, derived_key(DEVELOPMENT_SECRET, "event server").hex())

        def process_ids() -> list[int]:
            return _processes_with("livebackend.development.event_server.process", folder)

        def restart() -> None:
            for pid in process_ids():
                os.kill(pid, signal.SIGKILL)

        running = RunningEngine(
            server,
            engine,
            engine,
            publish_url,
            DEVELOPMENT_SECRET,
            restart,
            lambda: _restart_server(running, stack, DEVELOPMENT_INI, folder, settings),
            process_ids,
            partial(_local_channels, folder),
            logs=server.read_log,
        )
        running.wait_until_ready()
        yield running


@contextmanager
def nchan_engine(
    folder: Path,
    database_url: str,
    *,
    nodes: int = 1,
    redis: bool = False,
    changed_settings: Mapping[str, str] = MappingProxyType({}),
    max_streams_account: int = _MAX_STREAMS_ACCOUNT,
    max_streams_address: int = MAX_STREAMS_ADDRESS,
    worker_connections: int = 1024,
) -> Iterator[RunningEngine]:
    """Run a livebackend behind nginx with Nchan; several nodes need Redis.

    `max_streams_account` and `max_streams_address` replace the limits in nginx-site.conf.
    """
    with ExitStack() as stack:
        redis_port = stack.enter_context(_running_redis(folder)) if redis else None
        ports = [free_ports(3) for _ in range(nodes)]
        publish_url = f"http://127.0.0.1:{ports[0][1]}"
        settings = {
            **hardened_settings(database_url),
            "register.verified_phone": "optional",
            "http.trusted_proxies": "127.0.0.1",
            "http.public_url": PUBLIC_URL,
            "server.workers": "1",
            "events.gateway": "livebackend.gateways.events.nchan.NchanEvents",
            "events.publish_url": publish_url,
            "events.publish_secret": PUBLISH_SECRET,
            "limits.event_tickets": "",
            "limits.event_streams": "",
            "limits.unverified_address": "",
            "limits.login_new_addresses": "",
            **changed_settings,
        }
        server = stack.enter_context(running_server(PRODUCTION_INI, folder, settings))
        started_nodes = [
            stack.enter_context(
                _running_nginx(
                    folder / f"node-{number}",
                    node_ports,
                    server.port,
                    redis_port,
                    max_streams_account=max_streams_account,
                    max_streams_address=max_streams_address,
                    worker_connections=worker_connections,
                )
            )
            for number, node_ports in enumerate(ports)
        ]

        def restart() -> None:
            for node in started_nodes:
                node.restart()

        engine = NchanEvents(publish_url, PUBLISH_SECRET)
        running = RunningEngine(
            server,
            engine,
            NchanEvents(f"http://127.0.0.1:{ports[-1][1]}", PUBLISH_SECRET),
            publish_url,
            HARDENED_SECRET,
            restart,
            lambda: _restart_server(running, stack, PRODUCTION_INI, folder, settings),
            lambda: [pid for node in started_nodes for pid in node.processes()],
            partial(_nchan_channels, engine, started_nodes[-1]),
            nodes=started_nodes,
            ca_file=str(started_nodes[-1].folder / "ca.pem"),
            logs=lambda: "".join(node.logs() for node in started_nodes) + server.read_log(),
        )
        running.wait_until_ready()
        yield running


def _restart_server(
    running: RunningEngine, stack: ExitStack, ini: Path, folder: Path, settings: dict[str, str]
) -> None:
    """Kill livebackend and its workers; start it again, until `stack` ends."""
    running.server.kill()
    running.server.process.wait(20)
    running.server, process = start_server(running.server.port, ini, folder, settings)
    stack.callback(process.wait, 20)
    stack.callback(process.terminate)
    assert wait_until_up(running.server, process), running.server.log.read_text()


def _processes_with(module: str, folder: Path) -> list[int]:
    """Return the processes of a module that have the lock file of a data folder open."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and module.encode() in (process / "cmdline").read_bytes():
                open_files = [str(file.readlink()) for file in (process / "fd").iterdir()]
                if str(folder / "event-server.lock") in open_files:
                    found.append(int(process.name))
    return found


@contextmanager
def _running_redis(folder: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _running_nginx(
    folder: Path,
    ports: Sequence[int],
    app_port: int,
    redis_port: int | None,
    *,
    max_streams_account: int,
    max_streams_address: int,
    worker_connections: int,
) -> Iterator[NginxNode]:
    https_port, publish_port, stream_port = ports
    folder.mkdir()
    _create_certificate(folder)
    (folder / "nginx.conf").write_text(
        _NGINX_CONF.format(
            module=NCHAN_MODULE,
            folder=folder,
            connections=worker_connections,
            files=2 * worker_connections,
        )
    )
    (folder / "upstream.conf").write_text(f"server 127.0.0.1:{app_port} max_fails=0;")
    site = (_DEPLOY / "nginx-site.conf").read_text()
    http_server = site[site.index("server {\n    listen 80;") : site.rindex("server {")]
    replacements = {
        http_server: "",
        "    listen [::]:443 ssl http2 sndbuf=64k;\n": "",
        "listen 443 ssl": f"listen 127.0.0.1:{https_port} ssl",
        "include /etc/nginx/livebackend-upstream.conf": f"include {folder}/upstream.conf",
        "/etc/livebackend/tls/fullchain.pem": f"{folder}/ca.pem",
        "/etc/livebackend/tls/privkey.pem": f"{folder}/key.pem",
        "127.0.0.1:6548": f"127.0.0.1:{stream_port}",
        "Bearer CHANGE-ME": f"Bearer {PUBLISH_SECRET}",
        f"event_accounts {_MAX_STREAMS_ACCOUNT}": f"event_accounts {max_streams_account}",
        "event_addresses 200": f"event_addresses {max_streams_address}",
    }
    (folder / "livebackend.conf").write_text(_replaced(site, replacements))
    events = (_DEPLOY / "nginx-events.conf").read_text()
    events = events.replace("CHANGE-ME", PUBLISH_SECRET)
    replacements = {
        "listen 127.0.0.1:6548": f"listen 127.0.0.1:{stream_port}",
        "listen 127.0.0.1:6547": f"listen 127.0.0.1:{publish_port}",
    }
    if redis_port:
        events = events.replace("#redis ", "")
        replacements["127.0.0.1:6379"] = f"127.0.0.1:{redis_port}"
    (folder / "events.conf").write_text(_replaced(events, replacements))
    node = NginxNode(folder, https_port, publish_port, stream_port, _start_nginx(folder))
    try:
        yield node
    finally:
        node.process.terminate()
        node.process.wait(10)


def _replaced(text: str, replacements: dict[str, str]) -> str:
    for old, new in replacements.items():
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text


def _start_nginx(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [NGINX, "-p", f"{folder}/", "-c", "nginx.conf", "-e", "error.log"],
        stderr=subprocess.DEVNULL,
    )


def _create_certificate(folder: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = "subjectAltName=DNS:live.example,IP:127.0.0.1"
    command += ["-subj", "/CN=live.example", "-addext", names]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem")]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def _nchan_channels(
    engine: EventEngine, node: NginxNode, channels: str
) -> Iterator[tuple[EventEngine, StreamClient]]:
    url = f"http://127.0.0.1:{node.stream_port}/_events/{channels}"
    with StreamClient(url, headers={"Authorization": f"Bearer {PUBLISH_SECRET}"}) as client:
        yield engine, client


@contextmanager
def _local_channels(folder: Path, channels: str) -> Iterator[tuple[EventEngine, StreamClient]]:
    """Start an event server with an application that lets every client subscribe."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("X-Accel-Redirect", f"/_events/{channels}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    application = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=application.serve_forever, args=[0.05])
    thread.start()
    (port,) = free_ports(1)
    engine = LocalEvents(
        EventServerOptions(
            address=f"127.0.0.1:{port}",
            secret=PUBLISH_SECRET,
            app_url=f"http://127.0.0.1:{application.server_address[1]}",
            replay_s=120,
            max_streams_account=5,
            max_streams_address=200,
        ),
        lock_path=folder / "channels.lock",
    )
    engine.start_server()
    try:
        wait_until(lambda: _is_ready(engine), 20, "the event server to be ready")
        with StreamClient(engine.stream_url) as client:
            yield engine, client
    finally:
        engine.close_server()
        application.shutdown()
        application.server_close()
        thread.join(timeout=10)
