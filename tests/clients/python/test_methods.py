"""Tests of the methods: their signatures, and the forms that they send."""

import inspect
from email import message_from_bytes
from io import BytesIO
from pathlib import Path
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


@pytest.mark.parametrize("client_type", CLIENT_TYPES)
@pytest.mark.parametrize("is_path", [True, False])
def test_upload_sends_a_path_or_an_open_file(
    client_type: Any, tmp_path: Path, *, is_path: bool
) -> None:
    picture = tmp_path / "我.png"
    picture.write_bytes(b"a\r\npicture")
    received: list[Any] = []

    def respond(request: httpx.Request) -> httpx.Response:
        content_type = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n"
        received.append(message_from_bytes(content_type.encode() + request.content).get_payload())
        return httpx.Response(200, json={"result": "0000", "message": "/pictures/1.png"})

    server = ScriptedServer()
    server.respond = respond  # type: ignore[method-assign]
    open_file = BytesIO(b"a\r\npicture")
    open_file.read()  # the client reads the file from the start
    with client_of(server, client_type) as client:
        assert client.upload(img=picture if is_path else open_file) == "/pictures/1.png"
    ((part,),) = received
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
