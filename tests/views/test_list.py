"""Tests of the lists of friends, messages and live hosts."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from livebackend.container import Services
from tests.support.api import ApiClient, UserClient
from tests.support.database_state import DatabaseState
from tests.support.statements import record_statements


class TestFriendList:
    def test_friend_list_of_a_new_account_is_empty(self, ann: UserClient) -> None:
        response = ann.post("/list", friendlist="1")
        assert response.body == {"result": "0000", "message": {"count": 0, "friends": []}}

    def test_friend_list_shows_an_offline_friend_without_play_url(
        self, ann: UserClient, ben: UserClient
    ) -> None:
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

    def test_friend_list_shows_a_live_friend_with_title_and_play_url(
        self, ann: UserClient, api: ApiClient
    ) -> None:
        dan = api.register_user("13800000004", gender="1", headImage="d.png")
        ann.befriend(dan)
        dan.go_live(title="hello")
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

    def test_friend_list_contains_one_play_url_per_protocol(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.befriend(ben)
        ben.go_live()
        urls = ann.friends()[0]["playUrl"]
        assert re.fullmatch(r"rtmp://[a-z.-]+/livebackend/[0-9a-f]{24}", urls["rtmp"])
        assert re.fullmatch(r"http://[a-z.-]+/livebackend/[0-9a-f]{24}\.m3u8", urls["hls"])
        assert re.fullmatch(r"http://[a-z.-]+/livebackend/[0-9a-f]{24}\.flv", urls["hdl"])

    def test_friend_list_shows_a_host_with_an_opening_room_as_offline(
        self, ann: UserClient, ben: UserClient, services: Services
    ) -> None:
        ann.befriend(ben)
        ben.go_live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE rooms SET state = 'opening'")
        assert ann.friends()[0]["liveStatus"] == "off"
        assert ann.friends()[0]["title"] is None

    def test_friend_list_orders_by_live_status_then_nickname_then_phone(
        self, ann: UserClient, api: ApiClient
    ) -> None:
        nicknames = ["", "", "b", "a", "B", "é", "安", "z", "live", "later"]
        users = [
            api.register_user(f"1380000010{n}", nickname=nickname)
            for n, nickname in enumerate(nicknames)
        ]
        for user in reversed(users):
            ann.befriend(user)
        users[8].go_live()
        users[9].go_live()
        assert [friend["nickname"] for friend in ann.friends()] == [
            *["later", "live"],
            # Offline friends are ordered by the code points of the nickname. Friends without a
            # nickname come last, ordered by phone.
            *["B", "a", "b", "z", "é", "安"],
            *[None, None],
        ]
        assert [friend["userId"] for friend in ann.friends()][-2:] == ["13800000100", "13800000101"]

    @pytest.mark.parametrize("selector", ["friendlist", "messagelist"])
    def test_list_request_executes_one_statement_for_any_list_length(
        self, selector: str, ann: UserClient, api: ApiClient
    ) -> None:
        for n in range(10):
            ann.befriend(api.register_user(f"1380000020{n}"))
        with record_statements() as statements:
            response = ann.post("/list", **{selector: "1"})
        assert response.result == "0000"
        assert len(statements) == 1  # the statement checks the token and reads the list


class TestMessageList:
    def test_message_list_without_friend_requests_is_empty(self, ann: UserClient) -> None:
        assert ann.post("/list", messagelist="1").body == {"result": "0000", "message": []}

    def test_message_list_shows_a_friend_request_to_both_users(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        (message_of_ann,), (message_of_ben,) = ann.messages(), ben.messages()
        assert message_of_ann.keys() == message_of_ben.keys()
        profile = {"nickname": "Ben", "gender": None, "headImage": None}
        ids = {"verifyId": message_of_ben["verifyId"], "objectId": message_of_ben["objectId"]}
        expected_message = {
            **ids,
            "userId": ben.phone,
            **profile,
            "flag": 2,
            "time": message_of_ann["time"],
        }
        assert message_of_ann == expected_message
        assert message_of_ben == {
            **expected_message,
            "userId": ann.phone,
            "nickname": "Ann",
            "flag": 0,
        }

    def test_message_ids_begin_with_the_phones_of_addressee_and_applicant(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        (message,) = ann.messages()
        assert re.fullmatch(rf"{ben.phone},[0-9]+", message["verifyId"])
        assert re.fullmatch(rf"{ann.phone},[0-9]+", message["objectId"])

    def test_message_time_is_in_utc(self, ann: UserClient, ben: UserClient) -> None:
        ann.send_friend_request(ben)
        (message,) = ann.messages()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", message["time"])
        message_age = datetime.now(UTC) - datetime.fromisoformat(message["time"])
        assert timedelta() <= message_age < timedelta(seconds=10)

    def test_message_flag_changes_for_both_users_on_accept(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        ben.deal_message(ben.messages()[0], "accept")
        assert ann.messages()[0]["flag"] == 3
        assert ben.messages()[0]["flag"] == 1

    def test_message_list_has_the_newest_message_first(
        self, ann: UserClient, ben: UserClient, cat: UserClient, api: ApiClient
    ) -> None:
        dan = api.register_user("13800000004")
        ann.send_friend_request(ben)
        cat.send_friend_request(ann)
        ann.send_friend_request(dan)
        phones = [message["userId"] for message in ann.messages()]
        assert phones == [dan.phone, cat.phone, ben.phone]

    def test_message_list_contains_the_newest_500_messages(
        self, ann: UserClient, ben: UserClient, services: Services
    ) -> None:
        ann.send_friend_request(ben)
        newest_message = ann.messages()[0]
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO friend_requests (applicant_id, addressee_id, state, sent_at_us)"
                " SELECT applicant_id, addressee_id, 'declined', sent_at_us - n"
                " FROM friend_requests, generate_series(1, 600) AS n"
            )
        messages = ann.messages()
        assert len(messages) == 500
        assert messages[0] == newest_message
        message_times = [message["time"] for message in messages]
        assert message_times == sorted(message_times, reverse=True)


class TestLiveList:
    def live_list(self, user: UserClient, **params: str) -> Any:
        response = user.post("/list", livelist="1", **params)
        assert response.result == "0000", response
        return response.message

    def test_live_list_without_live_hosts_is_empty(self, ann: UserClient) -> None:
        assert self.live_list(ann) == {"rooms": [], "next": None}

    def test_live_list_shows_hosts_who_are_not_friends(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ben.go_live(title="hello")
        (room,) = self.live_list(ann)["rooms"]
        assert room.pop("playUrl").keys() == {"rtmp", "hls", "hdl"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", room.pop("time"))
        assert room == {
            "publicId": ben.post("/register", profile="1").message["publicId"],
            "nickname": "Ben",
            "gender": None,
            "headImage": None,
            "title": "hello",
        }
        ben.post("/room", leave="1")
        assert self.live_list(ann)["rooms"] == []

    def test_live_list_excludes_opening_rooms(
        self, ann: UserClient, ben: UserClient, services: Services
    ) -> None:
        ben.go_live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE rooms SET state = 'opening'")
        assert self.live_list(ann)["rooms"] == []

    def add_live_hosts(self, services: Services, *, count: int) -> None:
        """Insert live hosts; groups of seven have the same start time."""
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "WITH created AS (INSERT INTO accounts (phone, password_hash)"
                f" SELECT '2' || lpad(n::text, 10, '0'), 'x' FROM generate_series(1, {count}) AS n"
                " RETURNING id, phone)"
                " INSERT INTO rooms (account_id, state, stream_key, publish_key, stream, play_urls,"
                " started_at) SELECT id, 'open', phone, 'p', '{}',"
                """ '{"rtmp": null, "hls": null, "hdl": null}',"""
                " timestamptz '2026-01-01' + (substr(phone, 2)::int / 7) * interval '1 s'"
                " FROM created"
            )

    def test_live_list_pages_contain_every_room_once(
        self, ann: UserClient, services: Services
    ) -> None:
        self.add_live_hosts(services, count=120)
        pages: list[Any] = []
        cursor_parameter: dict[str, str] = {}
        while not pages or cursor_parameter["after"]:
            page = self.live_list(ann, **cursor_parameter)
            pages.append(page["rooms"])
            cursor_parameter = {"after": page["next"]}
        assert [len(page) for page in pages] == [50, 50, 20]
        rooms = [room for page in pages for room in page]
        assert len({room["publicId"] for room in rooms}) == 120
        assert [room["time"] for room in rooms] == sorted(
            (room["time"] for room in rooms), reverse=True
        )

    @pytest.mark.parametrize("host_count", [50, 100])
    def test_full_last_page_of_the_live_list_has_no_cursor(
        self, host_count: int, ann: UserClient, services: Services
    ) -> None:
        self.add_live_hosts(services, count=host_count)
        page = self.live_list(ann)
        if host_count > 50:
            page = self.live_list(ann, after=page["next"])
        assert (len(page["rooms"]), page["next"]) == (50, None)

    def test_live_list_page_does_not_shift_when_rooms_open_and_close(
        self, ann: UserClient, ben: UserClient, services: Services
    ) -> None:
        self.add_live_hosts(services, count=60)
        first_page = self.live_list(ann)
        expected_rooms = self.live_list(ann, after=first_page["next"])["rooms"]
        ben.go_live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET state = 'closed', closed_at = now(), close_reason = 'left'"
                " WHERE account_id = (SELECT id FROM accounts"
                f" WHERE public_id = '{first_page['rooms'][-1]['publicId']}')"
            )
        assert self.live_list(ann, after=first_page["next"])["rooms"] == expected_rooms
        assert len(expected_rooms) == 10

    @pytest.mark.parametrize("after", ["x", "1", "1,", ",1", "1,1,1", "-1,1", "9" * 17 + ",1"])
    def test_live_list_with_an_invalid_cursor_returns_0006(
        self, after: str, ann: UserClient
    ) -> None:
        response = ann.post("/list", livelist="1", after=after)
        assert (response.result, response.error) == ("0006", "after; reason=not_a_cursor")

    def test_live_list_accepts_the_largest_and_the_smallest_cursor(self, ann: UserClient) -> None:
        assert self.live_list(ann, after="9" * 16 + "," + "9" * 18)["rooms"] == []
        assert self.live_list(ann, after="0,0")["rooms"] == []


@pytest.mark.parametrize("selector", ["friendlist", "messagelist", "livelist"])
def test_list_request_changes_nothing(
    selector: str, ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.befriend(ben)
    with database_state.assert_unchanged():
        assert ann.post("/list", **{selector: "1"}).result == "0000"
