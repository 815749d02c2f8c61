"""A real media server, its publishers and its viewers; each fixture says what it needs."""

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
from tests.support.application import INI
from tests.support.fake_server import closed_port
from tests.support.servers import Server, serving

CONF = INI.parent / "deploy" / "nginx-rtmp.conf"
MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
HERE = Path(__file__).parent
VENDOR = HERE.parent.parent / "livebackend" / "static" / "vendor"
# What is left of a run: the screenshot, the servers' logs, the figures.
KEPT = INI.parent / "var" / "media-test"
HUB, SECRET = "livebackend", "a-secret-of-the-tests-that-is-long-enough"
# Short, so that a test need not wait a minute.
ABSENT_S = 6

FIGURES: list[str] = []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if FIGURES:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(FIGURES))
        terminalreporter.write_line(f"kept in {KEPT}")
        (KEPT / "figures.txt").write_text("\n".join(FIGURES) + "\n")


def figure(what: str, seconds: float) -> None:
    FIGURES.append(f"{seconds:6.2f} s  {what}")


def until(is_so: Callable[[], Any], within_s: float, what: str) -> float:
    """Waits for a state; returns how long that took."""
    start = time.monotonic()
    while not is_so():
        assert time.monotonic() - start < within_s, f"not within {within_s} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - start


@pytest.fixture(scope="session")
def _tools() -> None:
    """Says what is missing, all at once."""
    wanted = {
        "nginx": shutil.which("nginx"),
        "libnginx-mod-rtmp": MODULE.exists(),
        "ffmpeg": shutil.which("ffmpeg") and shutil.which("ffprobe"),
        "chromium": shutil.which("chromium"),
    }
    missing = [name for name, found in wanted.items() if not found]
    if missing:
        pytest.exit(f"missing: {' '.join(missing)}. On Debian: apt install {' '.join(missing)}", 3)
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)


@dataclass(frozen=True)
class Nginx:
    """A started media server, and where it listens."""

    process: subprocess.Popen[bytes]
    folder: Path
    rtmp: int
    http: int
    control: int

    @property
    def log(self) -> str:
        return (self.folder / "logs" / "error.log").read_text()

    def worker(self) -> int:
        """Its worker's process id; 0 while it has none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text().split():
            if b"worker process" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        return 0


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: closed_port() for name in ("rtmp", "http", "control")}


@pytest.fixture(scope="module")
def backend(
    _tools: None, new_database: Callable[[str], str], ports: dict[str, int]
) -> Iterator[Server]:
    url = new_database("media")
    database = Database(url)
    migrate(database)
    database.close()
    changed = {
        "database.url": url,
        "streams.gateway": "livebackend.gateways.streams.NginxRtmpStreams",
        "streams.hub": HUB,
        "streams.publish_host": f"127.0.0.1:{ports['rtmp']}",
        "streams.rtmp_host": f"127.0.0.1:{ports['rtmp']}",
        "streams.hls_host": f"127.0.0.1:{ports['http']}",
        "streams.control_url": f"http://127.0.0.1:{ports['control']}",
        "streams.hook_secret": SECRET,
        "streams.absent_s": str(ABSENT_S),
        "streams.sweep_s": "10",
    }
    with tempfile.TemporaryDirectory(prefix="media ") as folder:
        with serving(INI, Path(folder), changed) as server:
            yield server
        shutil.copy(server.log, KEPT / "livebackend.log")


def configuration(folder: Path, backend_port: int, ports: dict[str, int]) -> str:
    """deploy/nginx-rtmp.conf, but for its places and its secret; everything is on loopback."""
    text = CONF.read_text()
    for old, new in {
        "listen 1935;": f"listen 127.0.0.1:{ports['rtmp']};",
        "listen 8080;": f"listen 127.0.0.1:{ports['http']};",
        "listen 127.0.0.1:8081;": f"listen 127.0.0.1:{ports['control']};",
        "127.0.0.1:6543": f"127.0.0.1:{backend_port}",
        "CHANGE-ME": SECRET,
        "/var/lib/livebackend/media": str(folder),
    }.items():
        assert old in text, f"{CONF} has no {old}"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def nginx(_tools: None, backend: Server, ports: dict[str, int]) -> Iterator[Nginx]:
    with media_server(backend.port, ports) as server:
        yield server
        shutil.copy(server.folder / "logs" / "error.log", KEPT / "nginx.log")


@contextmanager
def media_server(backend_port: int, ports: dict[str, int]) -> Iterator[Nginx]:
    """An nginx that asks the backend on that port."""
    # In /tmp and somebody else's, if we are root: it is to run without privileges.
    folder = Path(tempfile.mkdtemp(prefix="livebackend-media-", dir="/tmp"))
    for name in ("logs", "temp", "hls"):
        (folder / name).mkdir()
    (folder / "nginx.conf").write_text(configuration(folder, backend_port, ports))
    become: list[str] = []
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, *folder.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        become = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}"]
        become += ["--clear-groups"]
    command = ["nginx", "-p", f"{folder}/", "-c", "nginx.conf", "-e", "logs/error.log"]
    process = subprocess.Popen([*become, *command], cwd=folder)
    server = Nginx(process, folder, **ports)
    try:
        took_s = until(partial(_answers, server), 10, "nginx listens")
        figure("nginx starts, unprivileged", took_s)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=10)
        shutil.rmtree(folder)


def _answers(nginx: Nginx) -> bool:
    assert nginx.process.poll() is None, nginx.log
    try:
        return requests.get(f"http://127.0.0.1:{nginx.control}/stat", timeout=2).ok
    except requests.ConnectionError:
        return False


@dataclass(frozen=True)
class Broadcaster:
    """Somebody with the app, who speaks to the server of the test."""

    backend: Server
    phone: str
    token: str

    def post(self, path: str, **form: str) -> Any:
        form = {"token": self.token, **form}
        return requests.post(f"{self.backend.address}{path}", data=form, timeout=10).json()

    def live(self) -> dict[str, Any]:
        reply = self.post("/room", live="1", title="hello")
        assert reply["result"] == "0000", reply
        stream: dict[str, Any] = json.loads(reply["message"])
        return stream

    def friend(self) -> dict[str, Any]:
        (friend,) = self.post("/list", friendlist="1")["message"]["friends"]
        return dict(friend)

    @property
    def is_open(self) -> bool:
        """Whether one's room is open, as strangers see it."""
        rooms = self.post("/list", livelist="1")["message"]["rooms"]
        return any(room["userId"] == self.phone for room in rooms)


@pytest.fixture
def people(backend: Server) -> Callable[[], Broadcaster]:
    """Registers somebody new."""

    def make() -> Broadcaster:
        post = partial(requests.post, timeout=10)
        phone = f"138{time.monotonic_ns() % 10**8:08}"
        form = {"userId": phone, "password": "harbour-42"}
        registered = post(f"{backend.address}/register", data={**form, "register": "1"}).json()
        assert registered["result"] == "0000", registered
        token = post(f"{backend.address}/log", data=form).json()["message"]
        return Broadcaster(backend, phone, token)

    return make


@pytest.fixture
def ann(people: Callable[[], Broadcaster]) -> Broadcaster:
    return people()


@pytest.fixture
def publish() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts an ffmpeg that publishes to a URL, two minutes at most; at first it may be silent."""
    started: list[subprocess.Popen[bytes]] = []

    def start(url: str, *, silent_s: int = 0) -> subprocess.Popen[bytes]:
        picture = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10"]
        sound = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]
        video = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-threads", "1"]
        video += ["-profile:v", "baseline", "-pix_fmt", "yuv420p", "-g", "20"]
        if silent_s:
            video += ["-vf", f"trim=start={silent_s}", "-af", f"atrim=start={silent_s}"]
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", *picture, *sound, *video]
        command += ["-c:a", "aac", "-t", "120", "-f", "flv", url]
        started.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(timeout=10)


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a page with hls.js on another host than the stream's."""

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            name = path.partition("?")[0].strip("/")
            folder = HERE if name == "player.html" else VENDOR
            return str(folder / Path(name).name)

        def log_message(self, *given: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/player.html"
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


def listening(pid: int) -> set[str]:
    """The addresses, in the kernel's hexadecimal, where a process listens for connections."""
    links = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    sockets = {each[8:-1] for each in links if each.startswith("socket:[")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.add(fields[1].partition(":")[0])
    return found


LOOPBACK = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
