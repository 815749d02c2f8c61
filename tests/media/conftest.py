"""Fixtures for media tests: media server, backend, publishers, player."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests

from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import UNPRIVILEGED_USER
from tests.support.application import DEVELOPMENT_INI
from tests.support.chromium import CHROMIUM_PATH
from tests.support.servers import Server, free_port, running_server
from tests.support.waiting import wait_until

NGINX_CONF = DEVELOPMENT_INI.parent / "deploy" / "nginx-rtmp.conf"
RTMP_MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
HERE = Path(__file__).parent
VENDOR = HERE.parent.parent / "livebackend" / "static" / "vendor"
# Directory for the results of the last run: screenshot, server logs and measured times.
RESULTS = DEVELOPMENT_INI.parent / "var" / "media-test"
HUB, SECRET = "livebackend", "a-secret-of-the-tests-that-is-long-enough"
# Shorter than the default, because the tests wait until this timeout has passed.
OFFLINE_TIMEOUT_S = 6

MEASURED_TIMES: list[str] = []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if MEASURED_TIMES:
        terminalreporter.section("measured times")
        terminalreporter.write_line("\n".join(MEASURED_TIMES))
        terminalreporter.write_line(f"stored in {RESULTS}")
        (RESULTS / "times.txt").write_text("\n".join(MEASURED_TIMES) + "\n")


def record_time(description: str, seconds: float) -> None:
    MEASURED_TIMES.append(f"{seconds:6.2f} s  {description}")


def measure_wait(condition: Callable[[], Any], limit_s: float, description: str) -> float:
    """Wait until `condition` is true; return the waiting time in seconds."""
    start = time.monotonic()
    wait_until(condition, limit_s, description)
    return time.monotonic() - start


@pytest.fixture(scope="session")
def _check_tools() -> None:
    """Exit with a list of the missing programs, if any."""
    tools = {
        "nginx": shutil.which("nginx"),
        "libnginx-mod-rtmp": RTMP_MODULE.exists(),
        "ffmpeg": shutil.which("ffmpeg") and shutil.which("ffprobe"),
        "chromium": Path(CHROMIUM_PATH).exists(),
    }
    missing = [name for name, is_installed in tools.items() if not is_installed]
    if missing:
        pytest.exit(f"missing: {' '.join(missing)}. On Debian: apt install {' '.join(missing)}", 3)
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir(parents=True)


@dataclass(frozen=True)
class Nginx:
    """A running media server, its directory and its ports."""

    process: subprocess.Popen[bytes]
    folder: Path
    rtmp_port: int
    http_port: int
    control_port: int

    @property
    def log(self) -> str:
        return (self.folder / "logs" / "error.log").read_text()

    def worker_pid(self) -> int:
        """Return the process id of the nginx worker, or 0 if there is none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text().split():
            if b"worker process" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        return 0


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("rtmp", "http", "control")}


@pytest.fixture(scope="module")
def backend(
    _check_tools: None, new_database: Callable[[str], str], ports: dict[str, int]
) -> Iterator[Server]:
    url = new_database("media")
    database = Database(url)
    migrate(database)
    database.close()
    settings = {
        "database.url": url,
        "streams.gateway": "livebackend.gateways.streams.NginxRtmpStreams",
        "streams.hub": HUB,
        "streams.publish_host": f"127.0.0.1:{ports['rtmp']}",
        "streams.rtmp_host": f"127.0.0.1:{ports['rtmp']}",
        "streams.hls_host": f"127.0.0.1:{ports['http']}",
        "streams.control_url": f"http://127.0.0.1:{ports['control']}",
        "streams.hook_secret": SECRET,
        "streams.offline_timeout_s": str(OFFLINE_TIMEOUT_S),
        "streams.check_interval_s": "10",
    }
    with tempfile.TemporaryDirectory(prefix="media ") as folder:
        with running_server(DEVELOPMENT_INI, Path(folder), settings) as server:
            yield server
        shutil.copy(server.log, RESULTS / "livebackend.log")


def configuration(folder: Path, backend_port: int, ports: dict[str, int]) -> str:
    """Return deploy/nginx-rtmp.conf with the ports, paths and secret of the test."""
    text = NGINX_CONF.read_text()
    for old, new in {
        "listen 1935;": f"listen 127.0.0.1:{ports['rtmp']};",
        "listen 8080;": f"listen 127.0.0.1:{ports['http']};",
        "listen 127.0.0.1:8081;": f"listen 127.0.0.1:{ports['control']};",
        "127.0.0.1:6543": f"127.0.0.1:{backend_port}",
        "CHANGE-ME": SECRET,
        "/var/lib/livebackend/media": str(folder),
    }.items():
        assert old in text, f"{NGINX_CONF} does not contain {old}"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def nginx(_check_tools: None, backend: Server, ports: dict[str, int]) -> Iterator[Nginx]:
    with media_server(backend.port, ports) as server:
        yield server
        shutil.copy(server.folder / "logs" / "error.log", RESULTS / "nginx.log")


@contextmanager
def media_server(backend_port: int, ports: dict[str, int]) -> Iterator[Nginx]:
    """Run an nginx that sends its callbacks to the port of the backend."""
    # This folder is not in pytest's temporary directory: if the tests run as root, nginx runs as an
    # unprivileged user, which cannot enter that directory.
    folder = Path(tempfile.mkdtemp(prefix="livebackend-media-", dir="/tmp"))
    for name in ("logs", "temp", "hls"):
        (folder / name).mkdir()
    (folder / "nginx.conf").write_text(configuration(folder, backend_port, ports))
    setpriv: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam(UNPRIVILEGED_USER)
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
        setpriv = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
        setpriv += ["--clear-groups"]
    command = ["nginx", "-p", f"{folder}/", "-c", "nginx.conf", "-e", "logs/error.log"]
    process = subprocess.Popen([*setpriv, *command], cwd=folder)
    server = Nginx(process, folder, ports["rtmp"], ports["http"], ports["control"])
    try:
        took_s = measure_wait(partial(_responds, server), 10, "nginx to respond")
        record_time("nginx starts without privileges", took_s)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=10)
        shutil.rmtree(folder)


def _responds(nginx: Nginx) -> bool:
    assert nginx.process.poll() is None, nginx.log
    try:
        return requests.get(f"http://127.0.0.1:{nginx.control_port}/stat", timeout=2).ok
    except requests.ConnectionError:
        return False


@dataclass(frozen=True)
class Host:
    """API client of a user on the backend server."""

    backend: Server
    phone: str
    token: str

    def post(self, path: str, **form: str) -> Any:
        form = {"token": self.token, **form}
        return requests.post(f"{self.backend.address}{path}", data=form, timeout=10).json()

    def go_live(self) -> dict[str, Any]:
        response = self.post("/room", live="1", title="hello")
        assert response["result"] == "0000", response
        stream: dict[str, Any] = json.loads(response["message"])
        return stream

    def only_friend(self) -> dict[str, Any]:
        (friend,) = self.post("/list", friendlist="1")["message"]["friends"]
        return dict(friend)

    @property
    def is_listed(self) -> bool:
        """True if the public list of rooms contains the room of this user."""
        own_id = self.post("/register", profile="1")["message"]["publicId"]
        rooms = self.post("/list", livelist="1")["message"]["rooms"]
        return any(room["publicId"] == own_id for room in rooms)


@pytest.fixture
def new_host(backend: Server) -> Callable[[], Host]:
    """Function that registers a new user and returns their API client."""

    def create() -> Host:
        post = partial(requests.post, timeout=10)
        phone = f"138{time.monotonic_ns() % 10**8:08}"
        form = {"userId": phone, "password": "harbour-42"}
        registration = post(f"{backend.address}/register", data={**form, "register": "1"}).json()
        assert registration["result"] == "0000", registration
        token = post(f"{backend.address}/log", data=form).json()["message"]
        return Host(backend, phone, token)

    return create


@pytest.fixture
def ann(new_host: Callable[[], Host]) -> Host:
    return new_host()


@pytest.fixture
def publish() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Function that starts ffmpeg, which publishes a stream for at most two minutes.

    ffmpeg sends no audio or video during the first `silent_s` seconds.
    """
    processes: list[subprocess.Popen[bytes]] = []

    def start(url: str, *, silent_s: int = 0) -> subprocess.Popen[bytes]:
        video_input = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10"]
        audio_input = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]
        video = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-threads", "1"]
        video += ["-profile:v", "baseline", "-pix_fmt", "yuv420p", "-g", "20"]
        if silent_s:
            video += ["-vf", f"trim=start={silent_s}", "-af", f"atrim=start={silent_s}"]
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-re"]
        command += [*video_input, *audio_input, *video]
        command += ["-c:a", "aac", "-t", "120", "-f", "flv", url]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait(timeout=10)


@pytest.fixture
def page() -> Iterator[str]:
    """URL of a page that plays HLS streams of other origins with hls.js."""

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            name = path.partition("?")[0].strip("/")
            folder = HERE if name == "player.html" else VENDOR
            return str(folder / Path(name).name)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/player.html"
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


def listening_addresses(pid: int) -> set[str]:
    """Return the listening addresses of a process, in the format of /proc/net/tcp."""
    open_files = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()]
    socket_inodes = {link[8:-1] for link in open_files if link.startswith("socket:[")}
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in socket_inodes:
                addresses.add(fields[1].partition(":")[0])
    return addresses


# 127.0.0.1 in the format of /proc/net/tcp.
LOOPBACK = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
