"""Going live and leaving."""

import json
from collections.abc import Callable, Iterator

import pytest

from livebackend.request import House
from tests.api import Answer, Api, App, Person, World
from tests.outside import CountedStreams

# Every key of the document's example, with its type.
EXAMPLE = {
    "nonce": int,
    "publishSecurity": str,
    "hub": str,
    "expireAt": str,
    "title": str,
    "publishKey": str,
    "disabled": bool,
    "disabledTill": int,
    "nropEnable": type(None),
    "hosts": dict,
    "updatedAt": str,
    "id": str,
    "createdAt": str,
}
HOSTS = {
    "live": {"snapshot", "http", "hdl", "hls", "rtmp"},
    "playback": {"http", "hls"},
    "play": {"http", "rtmp"},
    "publish": {"rtmp"},
}


@pytest.fixture
def app(new_app: Callable[..., App]) -> App:
    return new_app(streams__gateway="tests.outside.CountedStreams")


@pytest.fixture
def streams(house: House) -> Iterator[CountedStreams]:
    gateway = house.rooms._streams
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
        assert {key: type(value) for key, value in stream.items()} == EXAMPLE
        assert {name: set(hosts) for name, hosts in stream["hosts"].items()} == HOSTS

    def test_the_streams_title_is_its_key(self, ann: Person, streams: CountedStreams) -> None:
        stream = json.loads(ann.live(title="hello").message)
        assert [stream["title"]] == streams.created
        assert stream["id"] == f"z1.{stream['hub']}.{stream['title']}"

    def test_the_room_is_open_with_its_title(self, ann: Person, world: World) -> None:
        ann.live(title="你好 <b>hello</b>")
        (room,) = world.rows("rooms")
        assert (room["state"], room["title"]) == ("open", "你好 <b>hello</b>")

    @pytest.mark.parametrize("form", [{}, {"title": ""}])
    def test_the_title_is_optional(self, form: dict[str, str], ann: Person, world: World) -> None:
        assert ann.live(**form).result == "0000"
        assert world.rows("rooms")[0]["title"] is None

    def test_a_second_live_gives_the_same_stream_and_keeps_the_title(
        self, ann: Person, world: World, streams: CountedStreams
    ) -> None:
        first = ann.live(title="first")
        with world.unchanged():
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
    def test_a_bad_title_is_0009(self, title: str, ann: Person, world: World) -> None:
        with world.unchanged():
            answer = ann.live(title=title)
        assert (answer.status, answer.body) == (200, {"result": "0009", "message": None})
        ann.live(title="good")
        with world.unchanged():
            assert ann.live(title=title).result == "0009"

    def test_the_longest_title_is_taken(self, ann: Person) -> None:
        assert ann.live(title="题" * 100).result == "0000"

    def test_a_provider_that_fails_is_0009_and_leaves_no_room_open(
        self, ann: Person, streams: CountedStreams, world: World
    ) -> None:
        streams.fails = True
        answer = ann.live()
        assert (answer.status, answer.body) == (200, {"result": "0009", "message": None})
        assert answer.refusal == "stream could not be done outside"
        (room,) = world.rows("rooms")
        assert (room["state"], room["close_reason"]) == ("closed", "failed")
        streams.fails = False
        assert ann.live().result == "0000"

    def test_a_room_left_opening_by_a_crash_is_given_up(
        self, ann: Person, house: House, world: World
    ) -> None:
        ann.live()
        with house.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET state = 'opening', started_at = now() - interval '11 seconds'"
            )
        assert ann.live().result == "0000"
        assert sorted(row["state"] for row in world.rows("rooms")) == ["closed", "open"]

    def test_a_room_that_another_call_is_opening_is_waited_for_within_bounds(
        self, ann: Person, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ann.live()
        with house.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE rooms SET state = 'opening', started_at = now()")
        waits: list[float] = []
        monkeypatch.setattr("livebackend.services.rooms.time.sleep", waits.append)
        assert ann.live().result == "0009"
        assert sum(waits) == pytest.approx(3)

    def test_only_the_broadcaster_sees_the_publish_key(
        self, ann: Person, ben: Person, api: Api
    ) -> None:
        ann.befriend(ben)
        key = json.loads(ann.live().message)["publishKey"]
        for path, form in [
            ("/list", {"friendlist": "1"}),
            ("/list", {"messagelist": "1"}),
            ("/friend", {"search": "1", "userId": ann.phone}),
        ]:
            assert key not in json.dumps(ben.post(path, **form).body)


class TestLeave:
    def test_the_room_is_closed_and_the_stream_disabled(
        self, ann: Person, streams: CountedStreams, world: World
    ) -> None:
        ann.live()
        assert leave(ann).body == {"result": "0000", "message": None}
        (room,) = world.rows("rooms")
        assert (room["state"], room["close_reason"]) == ("closed", "left")
        assert streams.disabled == [room["stream_key"]] == streams.created
        assert room["disabled_at"] is not None

    def test_who_is_not_live_cannot_leave(self, ann: Person, world: World) -> None:
        with world.unchanged():
            answer = leave(ann)
        assert (answer.status, answer.body) == (200, {"result": "0009", "message": None})
        assert answer.refusal == "room is not live"

    def test_who_has_left_cannot_leave_again(self, ann: Person, world: World) -> None:
        ann.live()
        leave(ann)
        with world.unchanged():
            assert leave(ann).result == "0009"

    def test_one_leaves_ones_own_room_only(self, ann: Person, ben: Person, world: World) -> None:
        ann.live()
        with world.unchanged():
            assert leave(ben).result == "0009"

    def test_a_provider_that_fails_leaves_the_stream_still_to_be_disabled(
        self, ann: Person, streams: CountedStreams, world: World
    ) -> None:
        ann.live()
        streams.fails = True
        assert leave(ann).result == "0000"
        (room,) = world.rows("rooms")
        assert (room["state"], room["disabled_at"]) == ("closed", None)
