"""Tests of the client package and of its connections to real servers."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import livebackend_client
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend_client import (
    Client,
    CoinsNotUpdated,
    ConnectionFailed,
    ErrorReason,
    TokenInvalid,
)
from tests.clients.python.scripted_server import CLIENT_TYPES, blocking_client
from tests.support.api import PASSWORD
from tests.support.application import DEVELOPMENT_INI
from tests.support.markdown import DOCS, Page
from tests.support.servers import running_server

ANN_PHONE, BEN_PHONE = "13800000001", "13800000002"
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 40


def run_python(script: str) -> str:
    """Run a script with the client package on PYTHONPATH; return its output."""
    completed_process = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(livebackend_client.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return completed_process.stdout


@pytest.mark.processes
def test_client_imports_only_httpx_and_the_standard_library() -> None:
    script = "import httpx, sys; before = set(sys.modules); import livebackend_client; "
    script += "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    assert set(run_python(script).split()) <= {"livebackend_client"} | sys.stdlib_module_names


@pytest.fixture
def address(new_database: Callable[[str], str], worker_id: str, tmp_path: Path) -> Iterator[str]:
    url = new_database(f"client_{worker_id}")
    database = Database(url)
    migrate(database)
    database.close()
    with running_server(DEVELOPMENT_INI, tmp_path, {"database.url": url}) as server:
        yield server.address


def register(address: str, phone: str, **profile: Any) -> str:
    """Register a user; return a login token."""
    with Client(address) as client:
        ticket = client.send_code(token=phone)
        client.verify_code(code_v=ticket, code=ticket)
        client.register(user_id=phone, password=PASSWORD, **profile)
        return client.log_in(user_id=phone, password=PASSWORD, expire_in=3600)


@pytest.mark.processes
@pytest.mark.parametrize("client_type", CLIENT_TYPES)
def test_client_befriends_goes_live_and_sends_gifts(
    client_type: Any, address: str, tmp_path: Path
) -> None:
    picture = tmp_path / "我.png"
    picture.write_bytes(PNG)
    with blocking_client(client_type, address) as anyone:
        picture_path = anyone.upload(img=picture)
        assert Path(picture_path).read_bytes() == PNG
        assert anyone.upload(img=BytesIO(PNG))
    ann_token = register(address, ANN_PHONE, nickname="Ann", gender="0", head_image=picture_path)
    ben_token = register(address, BEN_PHONE)
    with (
        blocking_client(client_type, address, token=ann_token) as ann,
        blocking_client(client_type, address, token=ben_token) as ben,
    ):
        befriend(ann, ben)
        assert ann.live(title="hello").publish_key
        (friend,) = ben.friendlist().friends
        assert (friend.title, friend.live_status) == ("hello", "on")
        ben.refill(money=50)
        for _ in range(2):
            ben.send_gift(value=30, object=ANN_PHONE, description="rose", request_id="once")
        with pytest.raises(CoinsNotUpdated) as raised:
            ben.send_gift(value=30, object=ANN_PHONE, description="rose")
        error = raised.value
        assert (error.parameter, error.reason) == ("value", ErrorReason.INSUFFICIENT_COINS)
        assert error.explain(chinese=True) == "value：金币不足"
        assert error.server_request_id
        ben.log_out()
        with pytest.raises(TokenInvalid):
            ben.friendlist()


def befriend(ann: Any, ben: Any) -> None:
    found = ben.search(user_id=ANN_PHONE)
    assert (found.profile.nickname, found.flag) == ("Ann", "0")
    ben.add(user_id=ANN_PHONE)
    (message,) = ann.messagelist()
    ann.deal_message(
        user_id=message.user_id,
        verify_id=message.verify_id,
        object_id=message.object_id,
        behaviour="accept",
    )


@pytest.mark.processes
@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_client_example_in_the_documentation_prints_the_documented_error(
    name: str, address: str
) -> None:
    example_script = next(
        script
        for script in Page(DOCS / "clients.md").fences("python")
        if f" {name}(" in script and "send_gift" in script
    )
    register(address, BEN_PHONE)
    with Client(address, token=register(address, ANN_PHONE)) as ann:
        ann.add(user_id=BEN_PHONE)
    output = run_python(example_script.replace("http://127.0.0.1:6543", address))
    assert re.fullmatch(
        r"0013 database update failed: value exceeds the balance \(X-Request-Id \S+\)\n", output
    )


@pytest.mark.parametrize("client_type", CLIENT_TYPES)
def test_refused_connection_raises_connection_failed(client_type: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        blocking_client(client_type, f"http://127.0.0.1:{port}", max_attempts=1) as client,
        pytest.raises(ConnectionFailed) as raised,
    ):
        client.friendlist()
    assert raised.value.outcome_unknown


def accept_and_close(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.close()


@pytest.mark.parametrize("client_type", CLIENT_TYPES)
def test_closed_connection_raises_connection_failed(client_type: Any) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor() as pool,
        blocking_client(client_type, f"http://127.0.0.1:{listener.getsockname()[1]}") as client,
    ):
        listener.settimeout(10)
        closed = pool.submit(accept_and_close, listener)
        with pytest.raises(ConnectionFailed):
            client.log_out()
        closed.result(10)


@pytest.mark.parametrize("client_type", CLIENT_TYPES)
def test_timeout_raises_connection_failed(client_type: Any) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        blocking_client(
            client_type, f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.1
        ) as client,
        pytest.raises(ConnectionFailed, match="ReadTimeout"),
    ):
        client.log_out()
