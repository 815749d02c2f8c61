"""Tests of the methods: their signatures, and the forms that they send."""

import asyncio
import inspect
from email import message_from_bytes
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from livebackend_client import ApiError, AsyncClient, Client
from tests.clients.python.methods import METHOD_NAMES, all_arguments, operation_methods
from tests.clients.python.scripted_server import (
    CLIENT_TYPES,
    TOKEN,
    ScriptedServer,
    blocking_client,
    client_of,
)
from tools.generate_client import declared_operations

OPERATIONS = {operation.name: operation for operation in declared_operations()}
API_NAMES = {"user_id": "userId"}


def test_both_clients_have_the_same_methods_with_the_same_signatures() -> None:
    methods, async_methods = operation_methods(Client), operation_methods(AsyncClient)
    assert methods.keys() == async_methods.keys() == OPERATIONS.keys()
    for name, method in methods.items():
        async_method = async_methods[name]
        assert inspect.signature(method) == inspect.signature(async_method)
        assert inspect.getdoc(method) == inspect.getdoc(async_method)
        assert inspect.iscoroutinefunction(async_method)
        assert not inspect.iscoroutinefunction(method)
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


def test_names_of_parameters_are_in_snake_case() -> None:
    names = {name for method_name in METHOD_NAMES for name in all_arguments(method_name)}
    assert {"user_id", "head_image", "old_password", "verify_id", "request_id"} <= names
    assert all(name == name.lower() for name in names)


@pytest.mark.parametrize("method_name", sorted(set(METHOD_NAMES) - {"upload"}))
def test_method_sends_its_arguments_with_the_names_of_the_api(
    method_name: str, server: ScriptedServer, client: Any
) -> None:
    server.responses = [(200, b"", {})] * 3
    with pytest.raises(ApiError):
        getattr(client, method_name)(**all_arguments(method_name))
    operation = OPERATIONS[method_name]
    names = set(operation.parameters.model_fields) | {operation.selector} - {None}
    assert server.received[0].keys() == names
    if operation.requires_login:
        assert server.received[0]["token"] == TOKEN
    if operation.selector:
        assert server.received[0][operation.selector] == "1"


def test_text_is_sent_in_utf_8(server: ScriptedServer, client: Any) -> None:
    server.responses = [(200, b'{"result":"0000","message":null}', {})]
    client.register(user_id="13800000001", password="a&b=c+%", nickname="小安")
    assert server.received == [
        {"register": "1", "userId": "13800000001", "password": "a&b=c+%", "nickname": "小安"}
    ]


@pytest.mark.parametrize("name", ["user_id", "password", "nickname"])
def test_text_that_is_not_valid_unicode_raises_value_error_without_the_text(
    name: str, server: ScriptedServer, client: Any
) -> None:
    arguments = {"user_id": "13800000001", "password": "harbour-42", name: "harbour-42\ud800"}
    with pytest.raises(ValueError, match="is not valid Unicode") as raised:
        client.register(**arguments)
    error = raised.value
    assert type(error) is ValueError
    assert error.args == (f"{API_NAMES.get(name, name)} is not valid Unicode",)
    assert (error.__cause__, error.__context__) == (None, None)
    assert server.received == []


def test_login_token_that_is_not_valid_unicode_raises_value_error(server: ScriptedServer) -> None:
    with (
        client_of(server, Client, token="\udcff") as client,
        pytest.raises(ValueError, match="token is not valid Unicode"),
    ):
        client.balance()


class PictureServer(ScriptedServer):
    """A server that accepts uploads and records the parts of their forms."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Any] = []

    def respond(self, request: httpx.Request) -> httpx.Response:
        content_type = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n"
        self.parts += message_from_bytes(content_type.encode() + request.content).get_payload()
        return httpx.Response(200, json={"result": "0000", "message": "/pictures/1.png"})


@pytest.mark.parametrize("client_type", CLIENT_TYPES)
def test_file_whose_name_is_not_valid_unicode_is_sent(client_type: Any, tmp_path: Path) -> None:
    picture = tmp_path / "\udcff.png"
    picture.write_bytes(b"a picture")
    server = PictureServer()
    with client_of(server, client_type) as client:
        client.upload(img=picture)
    (part,) = server.parts
    assert part.get_filename() == "?.png"


class SlowFile(BytesIO):
    """A file whose content is available after an event."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.is_available = Event()

    def read(self, size: int | None = -1, /) -> bytes:
        assert self.is_available.wait(10)
        return super().read(size)


def test_asynchronous_upload_does_not_block_the_event_loop_while_it_reads_the_file() -> None:
    file = SlowFile(b"a picture")
    transport = httpx.MockTransport(PictureServer().respond)

    async def upload() -> str:
        async with httpx.AsyncClient(transport=transport) as http_client:
            client = AsyncClient("http://a.example", http_client=http_client)
            task = asyncio.create_task(client.upload(img=file))
            await asyncio.sleep(0)  # the task starts to read
            file.is_available.set()
            return await task

    assert asyncio.run(upload()) == "/pictures/1.png"


@pytest.mark.parametrize("client_type", CLIENT_TYPES)
@pytest.mark.parametrize("is_path", [True, False])
def test_upload_sends_a_path_or_an_open_file(
    client_type: Any, tmp_path: Path, *, is_path: bool
) -> None:
    picture = tmp_path / "我.png"
    picture.write_bytes(b"a\r\npicture")
    server = PictureServer()
    open_file = BytesIO(b"a\r\npicture")
    open_file.read()  # the client reads the file from the start
    with client_of(server, client_type) as client:
        assert client.upload(img=picture if is_path else open_file) == "/pictures/1.png"
    (part,) = server.parts
    assert part.get_param("name", header="Content-Disposition") == "img"
    assert part.get_payload(decode=True) == b"a\r\npicture"


@pytest.mark.parametrize("client_type", CLIENT_TYPES)
def test_missing_file_raises_file_not_found(client_type: Any) -> None:
    with client_of(ScriptedServer(), client_type) as client, pytest.raises(FileNotFoundError):
        client.upload(img="missing.png")


@pytest.mark.parametrize("client_type", CLIENT_TYPES)
@pytest.mark.parametrize("address", ["livebackend.example", "ftp://livebackend.example", ""])
def test_address_that_is_no_url_of_http_is_rejected(client_type: Any, address: str) -> None:
    with pytest.raises(ValueError, match="http"), blocking_client(client_type, address):
        pass
