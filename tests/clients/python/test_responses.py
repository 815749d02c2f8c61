"""Tests of reading responses: strict about types, tolerant of additions."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebackend.config.settings import Settings
from livebackend.gateways.streams import PiliV1
from livebackend_client import InvalidResponse, OperationRefused
from livebackend_client.json_reader import UnexpectedValue, read
from livebackend_client.responses import (
    Balance,
    Friend,
    FriendList,
    PlayUrls,
    Profile,
    SearchResult,
)
from tests.clients.python.methods import METHOD_NAMES, required_arguments
from tests.clients.python.scripted_server import CLIENT_TYPES, ScriptedServer, client_of
from tests.support.fake_providers import HUB, FakePiliV1
from tests.support.fake_server import running_fake_server
from tests.support.settings import REQUIRED_SETTINGS, UNSAFE_SETTINGS
from tests.support.streams import provider_settings

PROFILE = {"userId": "13800000001", "nickname": "Ann", "gender": "0", "headImage": None}
FRIEND = {
    **PROFILE,
    "liveStatus": "on",
    "title": "hello",
    "playUrl": {"rtmp": None, "hls": "http://a/b", "hdl": None},
}


def body(message: object, **extra: object) -> bytes:
    return json.dumps({"result": "0000", "message": message, **extra}).encode()


def test_friend_list_has_dataclasses_with_names_in_snake_case(
    server: ScriptedServer, client: Any
) -> None:
    server.responses = [(200, body({"count": 1, "friends": [FRIEND]}), {})]
    play_url = PlayUrls(rtmp=None, hls="http://a/b", hdl=None)
    friend = Friend("13800000001", "Ann", "0", None, "on", "hello", play_url)
    assert client.friendlist() == FriendList(1, [friend])
    assert (friend.live_status, friend.play_url and friend.play_url.hls) == ("on", "http://a/b")


def test_search_returns_the_profile_and_the_flag(server: ScriptedServer, client: Any) -> None:
    server.responses = [(200, body(PROFILE, flag="1"), {})]
    expected = SearchResult(profile=Profile("13800000001", "Ann", "0", None), flag="1")
    assert client.search(user_id="13800000001") == expected


def test_fields_and_values_of_a_newer_server_are_accepted(
    server: ScriptedServer, client: Any
) -> None:
    server.responses = [(200, body({**PROFILE, "gender": "2", "level": 3}, flag="2", more=[]), {})]
    result = client.search(user_id="13800000001")
    assert (result.profile.gender, result.flag) == ("2", "2")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"result":"0000","message":' + b"1" * 5000 + b"}",
        b'{"message":null}',
        b'{"result":"0000"}',
        body(None),
        body([]),
        body({"count": 1}),
        body({"count": True, "friends": []}),
        body({"count": 1.0, "friends": []}),
        body({"count": 1, "friends": {}}),
        body({"count": 1, "friends": [None]}),
        body({"count": 1, "friends": [PROFILE]}),
        body({"count": 1, "friends": [{**FRIEND, "gender": 0}]}),
        body({"count": 1, "friends": [{**FRIEND, "playUrl": {"rtmp": None, "hls": None}}]}),
    ],
)
def test_response_of_another_type_raises_invalid_response(
    content: bytes, server: ScriptedServer, client: Any
) -> None:
    server.responses = [(200, content, {})] * 3
    with pytest.raises(InvalidResponse):
        client.friendlist()
    assert len(server.received) == 3


def test_exception_names_the_wrong_field(server: ScriptedServer, client: Any) -> None:
    friends = [FRIEND, {**FRIEND, "playUrl": {"rtmp": None, "hls": 1, "hdl": None}}]
    server.responses = [(200, body({"count": 2, "friends": friends}), {})] * 3
    with pytest.raises(InvalidResponse) as raised:
        client.friendlist()
    assert str(raised.value) == (
        "the response is not from this API (HTTP status 200):"
        " body.message.friends[1].playUrl.hls is of the type int instead of str"
    )


def test_stream_of_an_older_hub_without_times_is_returned(
    server: ScriptedServer, client: Any
) -> None:
    pili_stream = {
        "id": f"z1.{HUB}.abc",
        "hub": HUB,
        "title": "abc",
        "publishKey": "secret",
        "publishSecurity": "static",
        "createdAt": "",
        "updatedAt": "yesterday",
        "hosts": {"publish": {"rtmp": "publish.example"}},
    }
    pili = FakePiliV1()
    pili.document = lambda key: pili_stream  # type: ignore[method-assign]
    with running_fake_server(pili.server) as pili_server:
        settings = {**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **provider_settings(pili_server.url)}
        gateway = PiliV1.from_settings(Settings.load(settings, {}))
        created_stream = gateway.create("abc", "secret")
    server.responses = [(200, body(created_stream.document_json), {})]
    stream = client.live()
    assert (stream.created_at, stream.updated_at, stream.expire_at) == ("", "yesterday", "")
    assert (stream.publish_key, stream.hosts.publish) == ("secret", {"rtmp": "publish.example"})


@pytest.mark.parametrize("message", [None, {}, "{", "[]", "{}"])
def test_stream_that_is_not_a_json_string_raises_invalid_response(
    message: object, server: ScriptedServer, client: Any
) -> None:
    server.responses = [(200, body(message), {})] * 3
    with pytest.raises(InvalidResponse):
        client.live()


@pytest.mark.parametrize("extra", [{}, {"flag": 1}, {"flag": None}])
def test_search_result_without_a_valid_flag_raises_invalid_response(
    extra: dict[str, object], server: ScriptedServer, client: Any
) -> None:
    server.responses = [(200, body(PROFILE, **extra), {})] * 3
    with pytest.raises(InvalidResponse):
        client.search(user_id="13800000001")


def test_time_has_a_time_zone() -> None:
    time = read("2017-01-06T02:28:45.799000Z", datetime, "time")
    assert time == datetime(2017, 1, 6, 2, 28, 45, 799_000, UTC)
    time_in_china = read("2017-01-06T10:28:45.799+08:00", datetime, "time")
    assert (time_in_china, time_in_china.utcoffset()) == (time, timedelta(hours=8))


@pytest.mark.parametrize("value", ["2017-01-06T02:28:45", "yesterday", "", 1483669725, None])
def test_text_that_is_no_time_with_a_time_zone_is_rejected(value: object) -> None:
    with pytest.raises(UnexpectedValue, match="time is"):
        read(value, datetime, "time")


@pytest.mark.parametrize(("value", "is_valid"), [({"coins": -1}, True), ({"coins": False}, False)])
def test_boolean_is_not_an_integer(value: object, *, is_valid: bool) -> None:
    if is_valid:
        assert read(value, Balance, "body") == Balance(-1)
    else:
        with pytest.raises(UnexpectedValue):
            read(value, Balance, "body")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3)
    ),
    max_leaves=8,
)
ENVELOPES = st.fixed_dictionaries(
    {"result": st.sampled_from(["0000", "0006", "0011", "0099", "x", None]), "message": JSON},
    optional={"flag": JSON},
)
BODIES = (JSON | ENVELOPES).map(lambda value: json.dumps(value).encode()) | st.binary()


@pytest.mark.parametrize("client_type", CLIENT_TYPES)
@given(
    method_name=st.sampled_from(METHOD_NAMES),
    status=st.sampled_from([200, 400, 500, 503]),
    content=BODIES,
    x_error=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])),
)
def test_any_body_raises_no_other_exception(
    client_type: Any, method_name: str, status: int, content: bytes, x_error: str
) -> None:
    headers = {"X-Error": x_error.encode("latin-1"), "Retry-After": "1"}
    server = ScriptedServer((status, content, headers))  # type: ignore[arg-type]
    with (
        client_of(server, client_type, max_attempts=1) as client,
        suppress(InvalidResponse, OperationRefused),
    ):
        getattr(client, method_name)(**required_arguments(method_name))
