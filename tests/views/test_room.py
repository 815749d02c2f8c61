"""Tests of going live, leaving a room, and the secrecy of publish keys."""

import json
import threading
from collections.abc import Callable, Iterator

import pytest

from livebackend.api.operation_declaration import operations
from livebackend.container import Services
from livebackend.core.errors import TokenInvalid
from livebackend.models import Base
from tests.support.api import ApiClient, ApiResponse, App, UserClient, run_concurrently
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import RecordingStreams
from tests.support.streams import STREAM_FIELDS, STREAM_HOSTS


@pytest.fixture
def app(new_app: Callable[..., App]) -> App:
    return new_app(streams__gateway="tests.support.fake_gateways.RecordingStreams")


@pytest.fixture
def streams(services: Services) -> Iterator[RecordingStreams]:
    gateway = services.gateways.streams
    assert isinstance(gateway, RecordingStreams)
    gateway.created, gateway.disabled = [], []
    yield gateway
    gateway.fails = False


def leave(user: UserClient) -> ApiResponse:
    return user.post("/room", leave="1")


class TestGoLive:
    def test_go_live_returns_the_stream_as_a_json_string(self, ann: UserClient) -> None:
        response = ann.go_live(title="hello")
        assert response.body == {"result": "0000", "message": response.message}
        assert isinstance(response.message, str)
        stream = json.loads(response.message)
        assert {key: type(value) for key, value in stream.items()} == STREAM_FIELDS
        assert {name: set(hosts) for name, hosts in stream["hosts"].items()} == STREAM_HOSTS

    def test_go_live_returns_the_stream_key_as_the_stream_title(
        self, ann: UserClient, streams: RecordingStreams
    ) -> None:
        stream = json.loads(ann.go_live(title="hello").message)
        assert [stream["title"]] == streams.created
        assert stream["id"] == f"z1.{stream['hub']}.{stream['title']}"

    def test_go_live_opens_a_room_with_the_title(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        ann.go_live(title="你好 <b>hello</b>")
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["title"]) == ("open", "你好 <b>hello</b>")

    @pytest.mark.parametrize("form", [{}, {"title": ""}])
    def test_go_live_without_a_title_succeeds(
        self, form: dict[str, str], ann: UserClient, database_state: DatabaseState
    ) -> None:
        assert ann.go_live(**form).result == "0000"
        assert database_state.rows("rooms")[0]["title"] is None

    def test_go_live_while_live_returns_the_same_stream_and_keeps_the_title(
        self, ann: UserClient, database_state: DatabaseState, streams: RecordingStreams
    ) -> None:
        first_response = ann.go_live(title="first")
        with database_state.assert_unchanged():
            second_response = ann.go_live(title="second")
        assert second_response.body == first_response.body
        assert len(streams.created) == 1

    def test_go_live_after_leaving_returns_a_new_stream_and_publish_key(
        self, ann: UserClient
    ) -> None:
        first_stream = json.loads(ann.go_live().message)
        leave(ann)
        second_stream = json.loads(ann.go_live().message)
        assert first_stream["title"] != second_stream["title"]
        assert first_stream["publishKey"] != second_stream["publishKey"]

    @pytest.mark.parametrize("title", ["t" * 101, "a\0b", "a\nb", "a\u202eb"])
    def test_go_live_with_an_invalid_title_returns_0009(
        self, title: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = ann.go_live(title=title)
        assert (response.status, response.body) == (200, {"result": "0009", "message": None})
        ann.go_live(title="good")
        with database_state.assert_unchanged():
            assert ann.go_live(title=title).result == "0009"

    def test_go_live_with_a_title_of_100_characters_succeeds(self, ann: UserClient) -> None:
        assert ann.go_live(title="题" * 100).result == "0000"

    def test_go_live_when_the_provider_fails_returns_0009_and_closes_the_room(
        self, ann: UserClient, streams: RecordingStreams, database_state: DatabaseState
    ) -> None:
        streams.fails = True
        response = ann.go_live()
        assert (response.status, response.body) == (200, {"result": "0009", "message": None})
        assert response.error == "stream; reason=upstream_failed"
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["close_reason"]) == ("closed", "failed")
        streams.fails = False
        assert ann.go_live().result == "0000"

    def test_go_live_replaces_a_room_that_a_crash_left_in_state_opening(
        self, ann: UserClient, services: Services, database_state: DatabaseState
    ) -> None:
        ann.go_live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET state = 'opening', started_at = now() - interval '11 seconds'"
            )
        assert ann.go_live().result == "0000"
        assert sorted(row["state"] for row in database_state.rows("rooms")) == ["closed", "open"]

    def test_go_live_waits_at_most_3_s_for_a_room_that_another_request_opens(
        self, ann: UserClient, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ann.go_live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE rooms SET state = 'opening', started_at = now()")
        wait_times_s: list[float] = []
        monkeypatch.setattr("livebackend.services.rooms.time.sleep", wait_times_s.append)
        assert ann.go_live().result == "0009"
        assert sum(wait_times_s) == pytest.approx(3)

    def test_concurrent_go_live_requests_all_return_0009_when_the_provider_fails(
        self,
        ann: UserClient,
        streams: RecordingStreams,
        monkeypatch: pytest.MonkeyPatch,
        database_state: DatabaseState,
    ) -> None:
        never_set_event, original_create = threading.Event(), RecordingStreams.create

        def create_after_1_s(self: RecordingStreams, key: str, publish_key: str) -> object:
            never_set_event.wait(1)
            return original_create(self, key, publish_key)

        monkeypatch.setattr(RecordingStreams, "create", create_after_1_s)
        streams.fails = True
        responses = run_concurrently(*[ann.go_live] * 5)
        assert {response.result for response in responses} == {"0009"}
        assert len(database_state.rows("rooms")) == len(streams.created) == 1

    def test_go_live_of_a_removed_account_opens_no_room(
        self, ann: UserClient, services: Services, database_state: DatabaseState
    ) -> None:
        claims = services.login_tokens.read(ann.token)
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE accounts SET phone = NULL, nickname = NULL, removed_at = now()"
            )
        with database_state.assert_unchanged(), pytest.raises(TokenInvalid):
            services.rooms.go_live(claims.account_id, title=None)


class TestLeave:
    def test_leave_closes_the_room_and_disables_the_stream(
        self, ann: UserClient, streams: RecordingStreams, database_state: DatabaseState
    ) -> None:
        ann.go_live()
        assert leave(ann).body == {"result": "0000", "message": None}
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["close_reason"]) == ("closed", "left")
        assert streams.disabled == [room["stream_key"]] == streams.created
        assert room["disabled_at"] is not None

    def test_leave_when_not_live_returns_0009(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = leave(ann)
        assert (response.status, response.body) == (200, {"result": "0009", "message": None})
        assert response.error == "room; reason=room_not_open"

    def test_second_leave_returns_0009(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        ann.go_live()
        leave(ann)
        with database_state.assert_unchanged():
            assert leave(ann).result == "0009"

    def test_leave_does_not_close_the_room_of_another_host(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.go_live()
        with database_state.assert_unchanged():
            assert leave(ben).result == "0009"

    def test_leave_when_the_provider_fails_closes_the_room_without_disabling_the_stream(
        self, ann: UserClient, streams: RecordingStreams, database_state: DatabaseState
    ) -> None:
        ann.go_live()
        streams.fails = True
        assert leave(ann).result == "0000"
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["disabled_at"]) == ("closed", None)


class TestPublishKeySecrecy:
    """Only the host of a room can read its publish key."""

    def test_publish_key_appears_in_no_other_response_and_in_no_log(
        self,
        ann: UserClient,
        ben: UserClient,
        api: ApiClient,
        app: App,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        ann.befriend(ben)
        publish_keys = {json.loads(ann.go_live(title="hello").message)["publishKey"]}
        publish_keys.add(json.loads(ann.go_live().message)["publishKey"])
        (key,) = publish_keys
        selectors = [
            (route, operation.selector)
            for operation in operations(app.registry)
            for route in operation.routes
            if operation.selector
        ]
        parameters = {"userId": ann.phone, "object": ann.phone, "value": "1", "description": "x"}
        parameters |= {"money": "10", "behaviour": "accept", "password": "harbour-42"}
        parameters |= {"verifyId": f"{ann.phone},1", "objectId": f"{ben.phone},1", "nickname": "B"}
        response_texts = []
        for client in (ben, api):
            for route, selector in selectors:
                if selector in ("remove", "logout", "change"):
                    continue  # these operations revoke the token
                response = client.post(f"/{route}", **{selector: "1"}, **parameters)
                response_texts.append(json.dumps([response.body, response.headers]))
        # In the loop, Ben also went live. That response contains only the key of Ben's own room.
        assert any('"publishKey\\' in text for text in response_texts)
        assert [text for text in response_texts if key in text] == []
        # Ann receives the key only in the response to going live, not in these responses.
        for path, form in [
            ("/list", {"friendlist": "1"}),
            ("/list", {"livelist": "1"}),
            ("/list", {"messagelist": "1"}),
            ("/friend", {"search": "1", "userId": ann.phone}),
            ("/register", {"profile": "1", "nickname": "A"}),
            ("/room", {"leave": "1"}),
        ]:
            response = ann.post(path, **form)
            assert response.result == "0000"
            assert key not in json.dumps([response.body, response.headers])
        assert key not in caplog.text
        assert "publishKey" not in caplog.text

    def test_publish_key_is_stored_only_in_the_rooms_table(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        key = json.loads(ann.go_live().message)["publishKey"]
        columns_with_key = {
            (table, column)
            for table in Base.metadata.tables
            for row in database_state.rows(table)
            for column, value in row.items()
            if key in str(value)
        }
        assert columns_with_key == {("rooms", "publish_key"), ("rooms", "stream")}
