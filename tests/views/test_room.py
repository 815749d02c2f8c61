"""Going live and leaving."""

import json
import threading
from collections.abc import Callable, Iterator

import pytest

from livebackend.api.declaration import operations
from livebackend.container import Services
from livebackend.core.errors import TokenInvalid
from livebackend.models import Base
from tests.support.api import Answer, Api, App, Person, at_once
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import CountedStreams
from tests.support.streams import STREAM_FIELDS, STREAM_HOSTS


@pytest.fixture
def app(new_app: Callable[..., App]) -> App:
    return new_app(streams__gateway="tests.support.fake_gateways.CountedStreams")


@pytest.fixture
def streams(services: Services) -> Iterator[CountedStreams]:
    gateway = services.gateways.streams
    assert isinstance(gateway, CountedStreams)
    gateway.created, gateway.disabled = [], []
    yield gateway
    gateway.fails = False


def leave(person: Person) -> Answer:
    return person.post("/room", leave="1")


class TestLive:
    def test_the_message_is_a_string_that_holds_the_streams_json(self, ann: Person) -> None:
        answer = ann.live(title="hello")
        assert answer.body == {"result": "0000", "message": answer.message}
        assert isinstance(answer.message, str)
        stream = json.loads(answer.message)
        assert {key: type(value) for key, value in stream.items()} == STREAM_FIELDS
        assert {name: set(hosts) for name, hosts in stream["hosts"].items()} == STREAM_HOSTS

    def test_the_streams_title_is_its_key(self, ann: Person, streams: CountedStreams) -> None:
        stream = json.loads(ann.live(title="hello").message)
        assert [stream["title"]] == streams.created
        assert stream["id"] == f"z1.{stream['hub']}.{stream['title']}"

    def test_the_room_is_open_with_its_title(
        self, ann: Person, database_state: DatabaseState
    ) -> None:
        ann.live(title="你好 <b>hello</b>")
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["title"]) == ("open", "你好 <b>hello</b>")

    @pytest.mark.parametrize("form", [{}, {"title": ""}])
    def test_the_title_is_optional(
        self, form: dict[str, str], ann: Person, database_state: DatabaseState
    ) -> None:
        assert ann.live(**form).result == "0000"
        assert database_state.rows("rooms")[0]["title"] is None

    def test_a_second_live_gives_the_same_stream_and_keeps_the_title(
        self, ann: Person, database_state: DatabaseState, streams: CountedStreams
    ) -> None:
        first = ann.live(title="first")
        with database_state.unchanged():
            second = ann.live(title="second")
        assert second.body == first.body
        assert len(streams.created) == 1

    def test_each_time_is_another_stream_with_another_key(self, ann: Person) -> None:
        first = json.loads(ann.live().message)
        leave(ann)
        second = json.loads(ann.live().message)
        assert first["title"] != second["title"]
        assert first["publishKey"] != second["publishKey"]

    @pytest.mark.parametrize("title", ["t" * 101, "a\0b", "a\nb", "a\u202eb"])
    def test_a_bad_title_is_0009(
        self, title: str, ann: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = ann.live(title=title)
        assert (answer.status, answer.body) == (200, {"result": "0009", "message": None})
        ann.live(title="good")
        with database_state.unchanged():
            assert ann.live(title=title).result == "0009"

    def test_the_longest_title_is_taken(self, ann: Person) -> None:
        assert ann.live(title="题" * 100).result == "0000"

    def test_a_provider_that_fails_is_0009_and_leaves_no_room_open(
        self, ann: Person, streams: CountedStreams, database_state: DatabaseState
    ) -> None:
        streams.fails = True
        answer = ann.live()
        assert (answer.status, answer.body) == (200, {"result": "0009", "message": None})
        assert answer.refusal == "stream could not be done outside"
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["close_reason"]) == ("closed", "failed")
        streams.fails = False
        assert ann.live().result == "0000"

    def test_a_room_left_opening_by_a_crash_is_given_up(
        self, ann: Person, services: Services, database_state: DatabaseState
    ) -> None:
        ann.live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET state = 'opening', started_at = now() - interval '11 seconds'"
            )
        assert ann.live().result == "0000"
        assert sorted(row["state"] for row in database_state.rows("rooms")) == ["closed", "open"]

    def test_a_room_that_another_call_is_opening_is_waited_for_within_bounds(
        self, ann: Person, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ann.live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE rooms SET state = 'opening', started_at = now()")
        waits: list[float] = []
        monkeypatch.setattr("livebackend.services.rooms.time.sleep", waits.append)
        assert ann.live().result == "0009"
        assert sum(waits) == pytest.approx(3)

    def test_a_waiter_gives_up_with_the_call_that_it_waits_for(
        self,
        ann: Person,
        streams: CountedStreams,
        monkeypatch: pytest.MonkeyPatch,
        database_state: DatabaseState,
    ) -> None:
        refused, create = threading.Event(), CountedStreams.create

        def late(self: CountedStreams, key: str, publish_key: str) -> object:
            refused.wait(1)
            return create(self, key, publish_key)

        monkeypatch.setattr(CountedStreams, "create", late)
        streams.fails = True
        answers = at_once(*[ann.live] * 5)
        assert {answer.result for answer in answers} == {"0009"}
        assert len(database_state.rows("rooms")) == len(streams.created) == 1

    def test_a_room_of_an_account_that_is_removed_meanwhile_is_not_opened(
        self, ann: Person, services: Services, database_state: DatabaseState
    ) -> None:
        token = services.login_tokens.read(ann.token)
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE accounts SET phone = NULL, nickname = NULL, removed_at = now()"
            )
        with database_state.unchanged(), pytest.raises(TokenInvalid):
            services.rooms.go_live(token.account_id, title=None)


class TestLeave:
    def test_the_room_is_closed_and_the_stream_disabled(
        self, ann: Person, streams: CountedStreams, database_state: DatabaseState
    ) -> None:
        ann.live()
        assert leave(ann).body == {"result": "0000", "message": None}
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["close_reason"]) == ("closed", "left")
        assert streams.disabled == [room["stream_key"]] == streams.created
        assert room["disabled_at"] is not None

    def test_who_is_not_live_cannot_leave(self, ann: Person, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            answer = leave(ann)
        assert (answer.status, answer.body) == (200, {"result": "0009", "message": None})
        assert answer.refusal == "room is not live"

    def test_who_has_left_cannot_leave_again(
        self, ann: Person, database_state: DatabaseState
    ) -> None:
        ann.live()
        leave(ann)
        with database_state.unchanged():
            assert leave(ann).result == "0009"

    def test_one_leaves_ones_own_room_only(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.live()
        with database_state.unchanged():
            assert leave(ben).result == "0009"

    def test_a_provider_that_fails_leaves_the_stream_still_to_be_disabled(
        self, ann: Person, streams: CountedStreams, database_state: DatabaseState
    ) -> None:
        ann.live()
        streams.fails = True
        assert leave(ann).result == "0000"
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["disabled_at"]) == ("closed", None)


class TestSecrecy:
    """The publish key is for the broadcaster alone."""

    def test_no_other_reply_holds_it(
        self, ann: Person, ben: Person, api: Api, app: App, caplog: pytest.LogCaptureFixture
    ) -> None:
        ann.befriend(ben)
        secrets = {json.loads(ann.live(title="hello").message)["publishKey"]}
        secrets.add(json.loads(ann.live().message)["publishKey"])
        (key,) = secrets
        selectors = [
            (route, each.selector)
            for each in operations(app.registry)
            for route in each.routes
            if each.selector
        ]
        everything = {"userId": ann.phone, "object": ann.phone, "value": "1", "description": "x"}
        everything |= {"money": "10", "behaviour": "accept", "password": "harbour-42"}
        everything |= {"verifyId": f"{ann.phone},1", "objectId": f"{ben.phone},1", "nickname": "B"}
        heard = []
        for somebody in (ben, api):
            for route, selector in selectors:
                if selector in ("remove", "logout", "change"):
                    continue  # they end what the others need
                answer = somebody.post(f"/{route}", **{selector: "1"}, **everything)
                heard.append(json.dumps([answer.body, answer.headers]))
        # Ben himself went live among all that; his own key is none of Ann's.
        assert any('"publishKey\\' in each for each in heard)
        assert [each for each in heard if key in each] == []
        # What is hers, is hers alone; and her lists and searches hold no key either.
        for path, form in [
            ("/list", {"friendlist": "1"}),
            ("/list", {"livelist": "1"}),
            ("/list", {"messagelist": "1"}),
            ("/friend", {"search": "1", "userId": ann.phone}),
            ("/register", {"profile": "1", "nickname": "A"}),
            ("/room", {"leave": "1"}),
        ]:
            answer = ann.post(path, **form)
            assert answer.result == "0000"
            assert key not in json.dumps([answer.body, answer.headers])
        assert key not in caplog.text
        assert "publishKey" not in caplog.text

    def test_it_stands_in_one_table_only(self, ann: Person, database_state: DatabaseState) -> None:
        key = json.loads(ann.live().message)["publishKey"]
        holders = {
            (name, column)
            for name in Base.metadata.tables
            for row in database_state.rows(name)
            for column, value in row.items()
            if key in str(value)
        }
        assert holders == {("rooms", "publish_key"), ("rooms", "stream")}
