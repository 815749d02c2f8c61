"""Tests that two servers on one database share codes, tokens and rate limits."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import create_engine

from tests.support.api import PASSWORD, wrong_code
from tests.support.application import PRODUCTION_INI
from tests.support.rate_limits import subject_digest
from tests.support.raw_http import RawRequest, RawResponse
from tests.support.servers import HARDENED_SECRET, Server, hardened_settings, running_server

pytestmark = pytest.mark.processes

ANN_PHONE = "13800000001"


@pytest.fixture(scope="module")
def other_server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("other")
    with running_server(PRODUCTION_INI, folder, hardened_settings(database_url)) as server:
        yield server


@pytest.fixture
def servers(hardened_server: Server, other_server: Server) -> tuple[Server, Server]:
    return hardened_server, other_server


def post(server: Server, path: str, **form: str) -> Any:
    response = RawResponse.exchange(server, RawRequest(path, urlencode(form)).encode())
    assert response.status == 200
    return response.json


def result(server: Server, path: str, **form: str) -> str:
    return str(post(server, path, **form)["result"])


def last_code(server: Server) -> str:
    """Return the last verification code that the server sent."""
    codes = re.findall(r'code for \S+: ([0-9]{4})"', server.read_log())
    return str(codes[-1])


def register(server: Server, phone: str = ANN_PHONE) -> str:
    """Register a user; return a login token."""
    ticket = post(server, "/register", token=phone)["message"]
    assert result(server, "/register", code_v=ticket, code=last_code(server)) == "0000"
    account = {"userId": phone, "password": PASSWORD}
    assert result(server, "/register", register="1", **account) == "0000"
    return str(post(server, "/log", **account)["message"])


def test_registration_and_room_continue_on_the_other_server(servers: tuple[Server, Server]) -> None:
    first_server, other_server = servers
    ticket = post(first_server, "/register", token=ANN_PHONE)["message"]
    assert result(other_server, "/register", code_v=ticket, code=last_code(first_server)) == "0000"
    # A verification code that was used on one server is invalid on both servers.
    assert result(first_server, "/register", code_v=ticket, code=last_code(first_server)) == "0004"
    account = {"userId": ANN_PHONE, "password": PASSWORD}
    assert result(first_server, "/register", register="1", **account) == "0000"
    token = post(other_server, "/log", **account)["message"]
    assert result(first_server, "/list", friendlist="1", token=token) == "0000"
    stream = post(first_server, "/room", live="1", token=token)
    assert post(other_server, "/room", live="1", token=token) == stream
    assert result(other_server, "/room", leave="1", token=token) == "0000"
    assert result(first_server, "/room", leave="1", token=token) == "0009"


def test_wrong_codes_are_counted_across_servers(servers: tuple[Server, Server]) -> None:
    first_server = servers[0]
    ticket = post(first_server, "/register", token=ANN_PHONE)["message"]
    code = last_code(first_server)
    results = [
        result(server, "/register", code_v=ticket, code=wrong_code(code))
        for server in (*servers, *servers, first_server)
    ]
    assert results == ["0004"] * 4 + ["0005"]
    for server in servers:
        assert result(server, "/register", code_v=ticket, code=code) == "0005"


def test_sent_codes_are_counted_across_servers(servers: tuple[Server, Server]) -> None:
    first_server, other_server = servers
    assert result(first_server, "/register", token=ANN_PHONE) == "0000"
    # The limits are one code request per phone and minute, and 20 per client address and hour.
    assert result(other_server, "/register", token=ANN_PHONE) == "0002"
    results = [result(servers[n % 2], "/register", token=f"138000001{n:02}") for n in range(20)]
    # The refused request counts against no limit.
    assert results == ["0000"] * 19 + ["0002"]


def test_wrong_passwords_are_counted_across_servers(servers: tuple[Server, Server]) -> None:
    register(servers[0])
    for n in range(10):
        assert result(servers[n % 2], "/log", userId=ANN_PHONE, password=f"wrong-{n}") == "0008"
    for server in servers:
        assert result(server, "/log", userId=ANN_PHONE, password=PASSWORD) == "0008"


def test_token_revoked_on_one_server_is_revoked_on_the_other(
    servers: tuple[Server, Server],
) -> None:
    first_server, other_server = servers
    first_token = register(first_server)
    second_token = post(other_server, "/log", userId=ANN_PHONE, password=PASSWORD)["message"]
    assert result(first_server, "/log", logout="1", token=first_token) == "0000"
    assert result(other_server, "/list", friendlist="1", token=first_token) == "0012"
    assert result(first_server, "/list", friendlist="1", token=second_token) == "0000"
    password_change = {"change": "1", "oldPassword": PASSWORD, "password": "lighthouse-7"}
    third_token = post(other_server, "/log", token=second_token, **password_change)["message"]
    assert result(first_server, "/list", friendlist="1", token=second_token) == "0012"
    assert result(first_server, "/list", friendlist="1", token=third_token) == "0000"


def test_client_address_is_read_from_the_header_of_a_trusted_proxy(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {**hardened_settings(database_url), "http.trusted_proxies": "127.0.0.1"}
    with running_server(PRODUCTION_INI, tmp_path_factory.mktemp("proxied"), settings) as server:

        def log_in(forwarded_for: str, scheme: str) -> RawResponse:
            headers = (f"X-Forwarded-For: {forwarded_for}", f"X-Forwarded-Proto: {scheme}")
            form = urlencode({"userId": ANN_PHONE, "password": PASSWORD})
            return RawResponse.exchange(server, RawRequest("/log", form, headers=headers).encode())

        assert log_in("198.51.100.1", "https").json["result"] == "0007"
        assert log_in("198.51.100.1", "http").status == 400
        with create_engine(database_url).connect() as connection:
            limit_keys = (
                connection.exec_driver_sql("SELECT key FROM rate_limit_counters").scalars().all()
            )
        assert limit_keys
        digest = subject_digest(HARDENED_SECRET, "198.51.100.1")
        assert f"login_address/3600/{digest}" in limit_keys


def test_header_name_without_a_hyphen_cannot_be_forged_with_underscores(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Granian cannot distinguish `X_Forwarded_For` from `X-Forwarded-For`."""
    settings = {
        **hardened_settings(database_url),
        "http.trusted_proxies": "127.0.0.1",
        "http.client_address_header": "Clientaddress",
    }
    forged_headers = ("X-Forwarded-For: 9.9.9.9", "X_Forwarded_For: 9.9.9.9")
    proxy_headers = ("Clientaddress: 198.51.100.1", "X-Forwarded-Proto: https")
    form = urlencode({"userId": ANN_PHONE, "password": PASSWORD})
    with running_server(PRODUCTION_INI, tmp_path_factory.mktemp("proxied"), settings) as server:
        headers = (*proxy_headers, *forged_headers)
        request = RawRequest("/log", form, headers=headers).encode()
        assert RawResponse.exchange(server, request).json["result"] == "0007"
    with create_engine(database_url).connect() as connection:
        limit_keys = (
            connection.exec_driver_sql("SELECT key FROM rate_limit_counters").scalars().all()
        )
    digest = subject_digest(HARDENED_SECRET, "198.51.100.1")
    assert f"login_address/3600/{digest}" in limit_keys
