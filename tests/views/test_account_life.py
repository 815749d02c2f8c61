"""Tests of logout, password change and reset, profile change, and account removal."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import text

from livebackend.container import Services
from livebackend.database.engine import Database
from tests.support.api import (
    PASSWORD,
    ApiClient,
    ApiResponse,
    App,
    PhoneClient,
    UserClient,
    run_concurrently,
    sorted_results,
    wrong_code,
)
from tests.support.database_state import DatabaseState
from tests.support.pictures import PNG, upload

NEW_PASSWORD = "another-harbour-7"


def wait_for_a_blocked_connection(database: Database) -> None:
    """Wait until a database connection waits for a lock."""
    count_lock_waits = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    for _ in range(200):
        with database.engine.connect() as connection:
            if connection.execute(count_lock_waits).scalar_one():
                return
        time.sleep(0.01)
    raise AssertionError("no database connection waits for a lock")


class TestLogOut:
    def test_logout_revokes_only_the_token_of_the_request(
        self, ann: UserClient, api: ApiClient, ben: UserClient
    ) -> None:
        other_client = api.log_in(ann.phone)
        assert ann.post("/log", logout="1").body == {"result": "0000", "message": None}
        assert ann.post("/list", friendlist="1").result == "0012"
        assert ann.post("/log", logout="1").result == "0012"
        assert other_client.friends() == ben.friends() == []


class TestChangePassword:
    def change_password(
        self,
        user: UserClient,
        old_password: str = PASSWORD,
        new_password: str = NEW_PASSWORD,
        **parameters: str,
    ) -> UserClient:
        response = user.post(
            "/log", change="1", oldPassword=old_password, password=new_password, **parameters
        )
        assert response.result == "0000", response
        return UserClient(user.app, {"token": response.message}, user.phone)

    def test_password_change_revokes_all_tokens_and_returns_a_new_token(
        self, ann: UserClient, api: ApiClient
    ) -> None:
        other_client = api.log_in(ann.phone)
        new_client = self.change_password(ann)
        for client in (ann, other_client):
            assert client.post("/list", friendlist="1").result == "0012"
        assert new_client.friends() == []
        assert api.post("/log", userId=ann.phone, password=PASSWORD).result == "0008"
        assert api.post("/log", userId=ann.phone, password=NEW_PASSWORD).result == "0000"

    def test_password_change_returns_a_token_with_the_requested_lifetime(
        self, ann: UserClient
    ) -> None:
        assert (
            self.change_password(ann, expire_in="0").post("/list", friendlist="1").result == "0011"
        )

    @pytest.mark.parametrize("old_password", ["wrong-1", "", PASSWORD + " ", "x" * 200])
    def test_password_change_with_a_wrong_old_password_returns_0008(
        self, old_password: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = ann.post("/log", change="1", oldPassword=old_password, password=NEW_PASSWORD)
        assert (response.status, response.result) == (200, "0008")

    @pytest.mark.parametrize(
        "new_password", ["short1", "onlyletters", "12345678", "", "a1" * 65, "a\x001bcdef"]
    )
    def test_password_change_with_an_invalid_new_password_returns_0006(
        self, new_password: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = ann.post("/log", change="1", oldPassword=PASSWORD, password=new_password)
        assert (response.status, response.result) == (200, "0006")

    def test_password_change_to_a_common_password_in_hardened_mode_returns_0006(
        self, phone_of_ann: PhoneClient, database_state: DatabaseState
    ) -> None:
        ann = phone_of_ann.register()
        for new_password in ("password1", f"x{ann.phone}"):
            with database_state.assert_unchanged():
                response = ann.post("/log", change="1", oldPassword=PASSWORD, password=new_password)
            assert (response.result, response.error) == ("0006", "password; reason=common_password")

    def test_only_one_of_two_concurrent_password_changes_succeeds(
        self, ann: UserClient, api: ApiClient
    ) -> None:
        password_changes = [
            partial(
                ann.post, "/log", change="1", oldPassword=PASSWORD, password=f"{NEW_PASSWORD}{n}"
            )
            for n in range(2)
        ]
        responses = run_concurrently(*password_changes)
        successful_changes = [
            n for n, response in enumerate(responses) if response.result == "0000"
        ]
        # The order of the two requests' steps varies. The other request fails because its token is
        # revoked, its old password is wrong, or the account has changed.
        assert len(successful_changes) == 1
        assert {response.result for response in responses} <= {"0000", "0006", "0008", "0012"}
        assert (
            api.post(
                "/log", userId=ann.phone, password=f"{NEW_PASSWORD}{successful_changes[0]}"
            ).result
            == "0000"
        )


class TestResetPassword:
    def test_password_reset_with_a_valid_code_succeeds_once_and_revokes_tokens(
        self, phone_of_ann: PhoneClient
    ) -> None:
        ann = phone_of_ann.register()
        reset_form = {"reset": "1", "userId": ann.phone, "password": NEW_PASSWORD}
        ticket = self.request_reset_code(phone_of_ann)
        code = phone_of_ann.received_codes[-1]
        assert len(code) == 6
        response = ann.post("/log", **reset_form, code_v=ticket, code=code)
        assert response.body == {"result": "0000", "message": None}
        assert ann.post("/list", friendlist="1").result == "0012"
        assert phone_of_ann.post("/log", userId=ann.phone, password=NEW_PASSWORD).result == "0000"
        # A password reset uses up the code.
        assert ann.post("/log", **reset_form, code_v=ticket, code=code).result == "0004"

    def request_reset_code(self, phone: PhoneClient) -> str:
        # Reset the rate limit, which allows one code per minute.
        with phone.app.registry.services.database.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM rate_limit_counters")
        response = phone.post("/log", forgot="1", userId=phone.number)
        assert response.result == "0000", response
        return str(response.message)

    def test_password_reset_responds_equally_to_registered_and_unregistered_phones(
        self, phone_of_ann: PhoneClient, phone_of_ben: PhoneClient
    ) -> None:
        phone_of_ann.register()
        message_count = len(phone_of_ann.received_codes)
        tickets = [self.request_reset_code(phone_of_ann), self.request_reset_code(phone_of_ben)]
        assert len(phone_of_ann.received_codes) == message_count + 1
        assert phone_of_ben.received_codes == []
        for phone, ticket in zip((phone_of_ann, phone_of_ben), tickets, strict=True):
            results = [
                phone.post(
                    "/log",
                    reset="1",
                    userId=phone.number,
                    password=NEW_PASSWORD,
                    code_v=ticket,
                    code="x",
                ).result
                for _ in range(6)
            ]
            assert results == ["0004"] * 4 + ["0005"] * 2

    def test_reset_code_and_registration_code_are_not_interchangeable(
        self, phone_of_ann: PhoneClient, phone_of_ben: PhoneClient
    ) -> None:
        phone_of_ann.register()
        ticket = self.request_reset_code(phone_of_ann)
        reset_code = {"code_v": ticket, "code": phone_of_ann.received_codes[-1]}
        assert phone_of_ann.post("/register", **reset_code).result == "0004"
        ticket = phone_of_ben.request_code()
        reset_form = {"reset": "1", "userId": phone_of_ann.number, "password": NEW_PASSWORD}
        registration_code = {"code_v": ticket, "code": phone_of_ben.received_codes[-1]}
        assert phone_of_ann.post("/log", **reset_form, **registration_code).result == "0004"

    def test_password_reset_with_a_code_of_another_phone_returns_0004(
        self, phone_of_ann: PhoneClient, phone_of_ben: PhoneClient, database_state: DatabaseState
    ) -> None:
        phone_of_ann.register(), phone_of_ben.register()
        ticket = self.request_reset_code(phone_of_ben)
        with database_state.assert_unchanged():
            response = phone_of_ben.post(
                "/log",
                reset="1",
                userId=phone_of_ann.number,
                password=NEW_PASSWORD,
                code_v=ticket,
                code=phone_of_ben.received_codes[-1],
            )
        assert response.result == "0004"

    def test_wrong_reset_codes_are_counted_and_change_no_password(
        self, phone_of_ann: PhoneClient, database_state: DatabaseState
    ) -> None:
        ann = phone_of_ann.register()
        ticket = self.request_reset_code(phone_of_ann)
        accounts_before = database_state.rows("accounts")
        reset_form = {"reset": "1", "userId": ann.phone, "password": NEW_PASSWORD, "code_v": ticket}
        code = phone_of_ann.received_codes[-1]
        results = [ann.post("/log", **reset_form, code=wrong_code(code)).result for _ in range(5)]
        assert results == ["0004"] * 4 + ["0005"]
        assert ann.post("/log", **reset_form, code=code).result == "0005"
        assert database_state.rows("accounts") == accounts_before

    def test_password_reset_with_an_invalid_password_does_not_use_up_the_code(
        self, phone_of_ann: PhoneClient, database_state: DatabaseState
    ) -> None:
        ann = phone_of_ann.register()
        reset_form = {
            "reset": "1",
            "userId": ann.phone,
            "code_v": self.request_reset_code(phone_of_ann),
        }
        reset_form["code"] = phone_of_ann.received_codes[-1]
        for invalid_password in ("short1", "password1", ""):
            with database_state.assert_unchanged():
                assert ann.post("/log", **reset_form, password=invalid_password).result == "0006"
        assert ann.post("/log", **reset_form, password=NEW_PASSWORD).result == "0000"

    def test_reset_code_request_within_a_minute_of_another_code_returns_0002(
        self, phone_of_ann: PhoneClient
    ) -> None:
        phone_of_ann.register()
        response = phone_of_ann.post("/log", forgot="1", userId=phone_of_ann.number)
        assert (response.result, response.error) == ("0002", "request; reason=rate_limited")

    def test_reset_code_request_in_development_mode_returns_the_code(
        self, ann: UserClient, api: ApiClient
    ) -> None:
        code = api.post("/log", forgot="1", userId=ann.phone).message
        assert len(code) == 6
        reset_form = {"reset": "1", "userId": ann.phone, "password": NEW_PASSWORD}
        assert api.post("/log", **reset_form, code_v=code, code="0" * 6).result == "0004"
        assert api.post("/log", **reset_form, code_v="1" * 6, code="1" * 6).result == "0004"
        assert api.post("/log", **reset_form, code_v=code, code=code).result == "0000"
        assert api.post("/log", userId=ann.phone, password=NEW_PASSWORD).result == "0000"

    @pytest.mark.parametrize("phone", ["", "1380000000", "１３８０００００００１"])
    def test_reset_code_request_with_an_invalid_phone_returns_0002(
        self, phone: str, api: ApiClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            assert api.post("/log", forgot="1", userId=phone).result == "0002"


class TestChangeProfile:
    def test_profile_change_keeps_omitted_fields(self, ann: UserClient) -> None:
        response = ann.post("/register", profile="1", gender="0")
        profile = {"userId": ann.phone, "nickname": "Ann", "gender": "0", "headImage": None}
        profile["publicId"] = response.message["publicId"]
        assert response.body == {"result": "0000", "message": profile}
        response = ann.post("/register", profile="1", nickname="Anna")
        assert response.message == profile | {"nickname": "Anna"}
        assert ann.post("/register", profile="1").message == profile | {"nickname": "Anna"}

    @pytest.mark.parametrize(
        "invalid_fields",
        [{"gender": "2"}, {"nickname": " "}, {"nickname": "x" * 33}, {"headImage": "\0"}],
    )
    def test_profile_change_with_an_invalid_field_changes_nothing(
        self, invalid_fields: dict[str, str], ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = ann.post("/register", profile="1", **{"gender": "0", **invalid_fields})
        assert (response.status, response.result) == (200, "0006")

    def test_profile_change_with_a_new_picture_deletes_the_old_picture(
        self, phone_of_ann: PhoneClient, database_state: DatabaseState
    ) -> None:
        ann = phone_of_ann.register()
        old_picture, new_picture = (upload(ann, PNG).message for _ in range(2))
        assert (
            ann.post("/register", profile="1", headImage=old_picture).message["headImage"]
            == old_picture
        )
        assert ann.post("/register", profile="1", headImage=old_picture).result == "0000"
        assert (
            ann.post("/register", profile="1", headImage=new_picture).message["headImage"]
            == new_picture
        )
        assert [row["location"] for row in database_state.rows("pictures")] == [new_picture]
        assert [Path(file).parent.name for file in self.picture_files(database_state)] == [
            new_picture.split("/")[-2]
        ]

    def picture_files(self, database_state: DatabaseState) -> list[str]:
        return [file for file in database_state.state()["files"] if file.endswith("picture.jpg")]

    def test_hardened_profile_change_to_a_picture_that_the_user_did_not_upload_returns_0006(
        self, phone_of_ann: PhoneClient, phone_of_ben: PhoneClient, database_state: DatabaseState
    ) -> None:
        ann, ben = phone_of_ann.register(), phone_of_ben.register()
        picture_of_ann = upload(ann, PNG).message
        ann.post("/register", profile="1", headImage=picture_of_ann)
        for location in (
            picture_of_ann,
            "/etc/passwd",
            "http://evil.example/x.png",
            "javascript:alert(1)",
        ):
            with database_state.assert_unchanged():
                response = ben.post("/register", profile="1", headImage=location)
            assert (response.result, response.error) == (
                "0006",
                "headImage; reason=unknown_picture",
            )


class TestRemove:
    def test_account_removal_deletes_all_personal_data(
        self, phone_of_ann: PhoneClient, phone_of_ben: PhoneClient, database_state: DatabaseState
    ) -> None:
        ann, ben = phone_of_ann.register(nickname="Ann", gender="0"), phone_of_ben.register()
        ann.post("/register", profile="1", headImage=upload(ann, PNG).message)
        ann.befriend(ben)
        ann.go_live(title="hello")
        ann.post("/room", leave="1")
        ann.refill("50")
        ann.send_gift(ben, "20")
        assert ann.post("/register", remove="1", password=PASSWORD).result == "0000"

        (row,) = [row for row in database_state.rows("accounts") if row["removed_at"]]
        assert {row[name] for name in ("phone", "nickname", "gender", "head_image")} == {None}
        assert row["password_hash"] == ""
        for table in ("friendships", "friend_requests", "blocks", "pictures"):
            assert database_state.rows(table) == []
        assert [row["phone"] for row in database_state.rows("verification_codes")] == [ben.phone]
        (room,) = database_state.rows("rooms")
        assert {room[name] for name in ("title", "play_urls")} == {None}
        assert json.loads(room["stream"]).keys() == {"id"}
        assert room["publish_key"] == ""
        assert not [
            file for file in database_state.state()["files"] if file.endswith("picture.jpg")
        ]
        # The ledger keeps the transfers, without personal data.
        assert len(database_state.rows("transfers")) == 2
        assert database_state.coins(ben) == 20
        assert sum(row["amount"] for row in database_state.rows("coin_slots")) == 50

    def test_removed_account_is_unknown_to_other_users(
        self, ann: UserClient, ben: UserClient, api: ApiClient
    ) -> None:
        ann.befriend(ben)
        ann.post("/register", remove="1", password=PASSWORD)
        assert ben.friends() == ben.messages() == []
        assert ann.post("/list", friendlist="1").result == "0012"
        assert api.post("/log", userId=ann.phone, password=PASSWORD).result == "0007"
        assert ben.send_friend_request(ann).result == "0007"
        assert ben.post("/friend", search="1", userId=ann.phone).result == "0007"
        ben.refill("10")
        assert ben.send_gift(ann, "1").result == "0013"

    def test_phone_of_a_removed_account_can_register_a_new_empty_account(
        self, ann: UserClient, api: ApiClient, database_state: DatabaseState
    ) -> None:
        ann.refill("10")
        ann.post("/register", remove="1", password=PASSWORD)
        assert api.post("/register", token=ann.phone).result == "0000"
        new_ann = api.register_user(ann.phone)
        assert ann.post("/list", friendlist="1").result == "0012"
        assert new_ann.friends() == new_ann.messages() == []
        assert database_state.coins(new_ann) == 0

    def test_account_removal_with_a_wrong_password_returns_0008(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            assert ann.post("/register", remove="1", password="wrong-1").result == "0008"
            assert ann.post("/register", remove="1").result == "0006"

    def test_account_removal_while_live_returns_0006(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        ann.go_live()
        with database_state.assert_unchanged():
            response = ann.post("/register", remove="1", password=PASSWORD)
        assert (response.result, response.error) == ("0006", "room; reason=room_open")

    @pytest.mark.parametrize("repetition", range(10))
    def test_account_removal_concurrent_with_an_accept_leaves_no_friendship(
        self, repetition: int, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        (message,) = ben.messages()
        remove_account = partial(ann.post, "/register", remove="1", password=PASSWORD)
        responses = run_concurrently(
            remove_account,
            lambda: ben.deal_message(message, "accept"),
            lambda: ben.send_friend_request(ann),
        )
        assert responses[0].result == "0000"
        assert responses[1].result in ("0000", "0006")
        assert database_state.rows("friendships") == database_state.rows("friend_requests") == []

    def test_profile_change_that_waited_for_the_account_removal_returns_0006(
        self, ann: UserClient, database: Database, database_state: DatabaseState
    ) -> None:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("SELECT 1 FROM accounts FOR UPDATE")
            change_thread = Thread(
                target=lambda: responses.append(ann.post("/register", profile="1", nickname="N"))
            )
            responses: list[ApiResponse] = []
            change_thread.start()
            wait_for_a_blocked_connection(database)
            connection.exec_driver_sql(
                "UPDATE accounts SET phone = NULL, nickname = NULL, removed_at = now()"
            )
        change_thread.join(timeout=10)
        assert [response.result for response in responses] == ["0006"]
        assert [row["nickname"] for row in database_state.rows("accounts")] == [None]

    def test_only_one_of_twenty_concurrent_account_removals_succeeds(self, ann: UserClient) -> None:
        remove_account = partial(ann.post, "/register", remove="1", password=PASSWORD)
        results = sorted_results(run_concurrently(*[remove_account] * 20))
        assert results.count("0000") == 1
        assert set(results) <= {"0000", "0006", "0008", "0012"}


def test_disabled_account_cannot_use_tokens_log_in_or_reset_the_password(
    ann: UserClient, api: ApiClient, services: Services
) -> None:
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE accounts SET disabled_at = now()")
    assert ann.post("/list", friendlist="1").result == "0012"
    assert api.post("/log", userId=ann.phone, password=PASSWORD).result == "0008"
    code = api.post("/log", forgot="1", userId=ann.phone).message
    reset_form = {
        "reset": "1",
        "userId": ann.phone,
        "password": NEW_PASSWORD,
        "code_v": code,
        "code": code,
    }
    assert api.post("/log", **reset_form).result == "0004"


@pytest.mark.usefixtures("database")
def test_requests_with_a_revoked_token_do_not_consume_the_rate_limit(
    new_app: Callable[..., App],
) -> None:
    ann = ApiClient(new_app(limits__search="2 per hour")).register_user("13800000001")
    revoked_client = UserClient(ann.app, dict(ann.default_parameters), ann.phone)
    change_response = ann.post("/log", change="1", oldPassword=PASSWORD, password=NEW_PASSWORD)
    for _ in range(3):
        assert revoked_client.post("/friend", search="1", userId=ann.phone).result == "0012"
    assert (
        ann.post("/friend", search="1", userId=ann.phone, token=change_response.message).result
        == "0000"
    )
