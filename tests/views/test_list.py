"""One's friends and one's messages."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from livebackend.container import Services
from tests.support.api import Api, Person
from tests.support.statements import statements_noted


class TestFriendList:
    def test_nobody_has_no_friends(self, ann: Person) -> None:
        answer = ann.post("/list", friendlist="1")
        assert answer.body == {"result": "0000", "message": {"count": 0, "friends": []}}

    def test_a_friend_who_is_off(self, ann: Person, ben: Person) -> None:
        ann.befriend(ben)
        assert ann.friends() == [
            {
                "userId": ben.phone,
                "nickname": "Ben",
                "gender": None,
                "headImage": None,
                "liveStatus": "off",
                "title": None,
                "playUrl": None,
            }
        ]

    def test_a_friend_who_is_live(self, ann: Person, api: Api) -> None:
        dan = api.person("13800000004", gender="1", headImage="d.png")
        ann.befriend(dan)
        dan.live(title="hello")
        (friend,) = ann.friends()
        assert friend.pop("playUrl").keys() == {"rtmp", "hls", "hdl"}
        assert friend == {
            "userId": dan.phone,
            "nickname": None,
            "gender": "1",
            "headImage": "d.png",
            "liveStatus": "on",
            "title": "hello",
        }
        dan.post("/room", leave="1")
        assert ann.friends()[0]["liveStatus"] == "off"

    def test_a_play_url_names_the_stream_by_protocol(self, ann: Person, ben: Person) -> None:
        ann.befriend(ben)
        ben.live()
        urls = ann.friends()[0]["playUrl"]
        assert re.fullmatch(r"rtmp://[a-z.-]+/livebackend/[0-9a-f]{24}", urls["rtmp"])
        assert re.fullmatch(r"http://[a-z.-]+/livebackend/[0-9a-f]{24}\.m3u8", urls["hls"])
        assert re.fullmatch(r"http://[a-z.-]+/livebackend/[0-9a-f]{24}\.flv", urls["hdl"])

    def test_a_room_being_opened_is_off(self, ann: Person, ben: Person, services: Services) -> None:
        ann.befriend(ben)
        ben.live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE rooms SET state = 'opening'")
        assert ann.friends()[0]["liveStatus"] == "off"
        assert ann.friends()[0]["title"] is None

    def test_the_order(self, ann: Person, api: Api) -> None:
        nicknames = ["", "", "b", "a", "B", "é", "安", "z", "live", "later"]
        people = [
            api.person(f"1380000010{n}", nickname=nickname) for n, nickname in enumerate(nicknames)
        ]
        for person in reversed(people):
            ann.befriend(person)
        people[8].live()
        people[9].live()
        assert [friend["nickname"] for friend in ann.friends()] == [
            *["later", "live"],
            # By code point; who has no name comes last, by phone.
            *["B", "a", "b", "z", "é", "安"],
            *[None, None],
        ]
        assert [friend["userId"] for friend in ann.friends()][-2:] == ["13800000100", "13800000101"]

    @pytest.mark.parametrize("selector", ["friendlist", "messagelist"])
    def test_a_list_takes_one_statement_however_long_it_is(
        self, selector: str, ann: Person, api: Api
    ) -> None:
        for n in range(10):
            ann.befriend(api.person(f"1380000020{n}"))
        with statements_noted() as statements:
            answer = ann.post("/list", **{selector: "1"})
        assert answer.result == "0000"
        assert len(statements) == 1  # whose token it is, and the list


class TestMessageList:
    def test_nobody_asked_is_an_empty_list(self, ann: Person) -> None:
        assert ann.post("/list", messagelist="1").body == {"result": "0000", "message": []}

    def test_a_request_is_a_message_for_either_side(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        (mine,), (theirs,) = ann.messages(), ben.messages()
        assert mine.keys() == theirs.keys()
        profile = {"nickname": "Ben", "gender": None, "headImage": None}
        ids = {"verifyId": theirs["verifyId"], "objectId": theirs["objectId"]}
        expected = {**ids, "userId": ben.phone, **profile, "flag": 2, "time": mine["time"]}
        assert mine == expected
        assert theirs == {**expected, "userId": ann.phone, "nickname": "Ann", "flag": 0}

    def test_the_ids_name_the_owner_of_each_copy(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        (message,) = ann.messages()
        assert re.fullmatch(rf"{ben.phone},[0-9]+", message["verifyId"])
        assert re.fullmatch(rf"{ann.phone},[0-9]+", message["objectId"])

    def test_the_time_is_utc(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        (message,) = ann.messages()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", message["time"])
        age = datetime.now(UTC) - datetime.fromisoformat(message["time"])
        assert timedelta() <= age < timedelta(seconds=10)

    def test_the_flag_is_a_number_and_changes_for_both(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        ben.deal(ben.messages()[0], "accept")
        assert ann.messages()[0]["flag"] == 3
        assert ben.messages()[0]["flag"] == 1

    def test_the_newest_comes_first(self, ann: Person, ben: Person, cat: Person, api: Api) -> None:
        dan = api.person("13800000004")
        ann.add(ben)
        cat.add(ann)
        ann.add(dan)
        phones = [message["userId"] for message in ann.messages()]
        assert phones == [dan.phone, cat.phone, ben.phone]

    def test_the_newest_500_are_listed(self, ann: Person, ben: Person, services: Services) -> None:
        ann.add(ben)
        newest = ann.messages()[0]
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO friend_requests (applicant_id, addressee_id, state, sent_at_us)"
                " SELECT applicant_id, addressee_id, 'declined', sent_at_us - n"
                " FROM friend_requests, generate_series(1, 600) AS n"
            )
        messages = ann.messages()
        assert len(messages) == 500
        assert messages[0] == newest
        times = [message["time"] for message in messages]
        assert times == sorted(times, reverse=True)


class TestLiveList:
    def live_list(self, person: Person, **params: str) -> Any:
        answer = person.post("/list", livelist="1", **params)
        assert answer.result == "0000", answer
        return answer.message

    def test_nobody_is_live(self, ann: Person) -> None:
        assert self.live_list(ann) == {"rooms": [], "next": None}

    def test_who_is_live_is_there_for_strangers_too(self, ann: Person, ben: Person) -> None:
        ben.live(title="hello")
        (room,) = self.live_list(ann)["rooms"]
        assert room.pop("playUrl").keys() == {"rtmp", "hls", "hdl"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", room.pop("time"))
        assert room == {
            "userId": ben.phone,
            "nickname": "Ben",
            "gender": None,
            "headImage": None,
            "title": "hello",
        }
        ben.post("/room", leave="1")
        assert self.live_list(ann)["rooms"] == []

    def test_a_room_being_opened_is_not_there(
        self, ann: Person, ben: Person, services: Services
    ) -> None:
        ben.live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE rooms SET state = 'opening'")
        assert self.live_list(ann)["rooms"] == []

    def crowd(self, services: Services, *, size: int) -> None:
        """So many are live; some of them started at the same moment."""
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "WITH made AS (INSERT INTO accounts (phone, password_hash)"
                f" SELECT '2' || lpad(n::text, 10, '0'), 'x' FROM generate_series(1, {size}) AS n"
                " RETURNING id, phone)"
                " INSERT INTO rooms (account_id, state, stream_key, publish_key, stream, play_urls,"
                " started_at) SELECT id, 'open', phone, 'p', '{}',"
                """ '{"rtmp": null, "hls": null, "hdl": null}',"""
                " timestamptz '2026-01-01' + (substr(phone, 2)::int / 7) * interval '1 s' FROM made"
            )

    def test_pages_are_whole_and_none_is_twice(self, ann: Person, services: Services) -> None:
        self.crowd(services, size=120)
        pages: list[Any] = []
        after: dict[str, str] = {}
        while not pages or after["after"]:
            page = self.live_list(ann, **after)
            pages.append(page["rooms"])
            after = {"after": page["next"]}
        assert [len(page) for page in pages] == [50, 50, 20]
        rooms = [room for page in pages for room in page]
        assert len({room["userId"] for room in rooms}) == 120
        assert [room["time"] for room in rooms] == sorted(
            (room["time"] for room in rooms), reverse=True
        )

    @pytest.mark.parametrize("size", [50, 100])
    def test_last_page_has_no_next_position_even_if_it_is_full(
        self, size: int, ann: Person, services: Services
    ) -> None:
        self.crowd(services, size=size)
        page = self.live_list(ann)
        if size > 50:
            page = self.live_list(ann, after=page["next"])
        assert (len(page["rooms"]), page["next"]) == (50, None)

    def test_a_page_stays_where_it_was_while_rooms_come_and_go(
        self, ann: Person, ben: Person, services: Services
    ) -> None:
        self.crowd(services, size=60)
        first = self.live_list(ann)
        expected = self.live_list(ann, after=first["next"])["rooms"]
        ben.live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET state = 'closed', closed_at = now(), close_reason = 'left'"
                f" WHERE stream_key = '{first['rooms'][-1]['userId']}'"
            )
        assert self.live_list(ann, after=first["next"])["rooms"] == expected
        assert len(expected) == 10

    @pytest.mark.parametrize("after", ["x", "1", "1,", ",1", "1,1,1", "-1,1", "9" * 17 + ",1"])
    def test_a_place_that_is_none_is_refused(self, after: str, ann: Person) -> None:
        answer = ann.post("/list", livelist="1", after=after)
        assert (answer.result, answer.refusal) == ("0006", "after is not a place in this list")

    def test_the_last_places_that_can_be_written(self, ann: Person) -> None:
        assert self.live_list(ann, after="9" * 16 + "," + "9" * 18)["rooms"] == []
        assert self.live_list(ann, after="0,0")["rooms"] == []


@pytest.mark.parametrize("listed", ["friendlist", "messagelist", "livelist"])
def test_a_list_changes_nothing(
    listed: str, ann: Person, ben: Person, database_state: object
) -> None:
    ann.befriend(ben)
    with database_state.unchanged():  # type: ignore[attr-defined]
        assert ann.post("/list", **{listed: "1"}).result == "0000"
