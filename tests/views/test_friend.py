"""Tests of user search, friend requests, messages and unfriending."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.api import ApiClient, ApiResponse, App, UserClient
from tests.support.database_state import DatabaseState

UNKNOWN_PHONE = "13800000077"
MALFORMED_PHONES = [
    "",
    "1380000000",
    "138000000011",
    "1380000000a",
    "１３８０００００００１",
    "1\0",
]


def unfriend(user: UserClient, phone: str) -> ApiResponse:
    return user.post("/friend", delete="1", userId=phone)


class TestSearch:
    def search(self, user: UserClient, phone: str) -> ApiResponse:
        return user.post("/friend", search="1", userId=phone)

    def test_search_for_a_user_who_is_not_a_friend_returns_flag_0(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        profile = {"userId": ben.phone, "nickname": "Ben", "gender": None, "headImage": None}
        assert self.search(ann, ben.phone).body == {
            "result": "0000",
            "message": profile,
            "flag": "0",
        }

    def test_search_for_a_friend_returns_flag_1(self, ann: UserClient, ben: UserClient) -> None:
        ann.befriend(ben)
        assert self.search(ann, ben.phone).body["flag"] == "1"
        assert self.search(ben, ann.phone).body["flag"] == "1"

    def test_search_for_a_user_with_an_open_friend_request_returns_flag_0(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        assert self.search(ann, ben.phone).body["flag"] == "0"

    def test_search_for_own_phone_returns_flag_minus_1(self, ann: UserClient) -> None:
        assert self.search(ann, ann.phone).body["flag"] == "-1"

    @pytest.mark.parametrize("phone", [UNKNOWN_PHONE, *MALFORMED_PHONES])
    def test_search_for_an_unknown_or_invalid_phone_returns_0007_without_flag(
        self, phone: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = self.search(ann, phone)
        assert (response.status, response.body) == (200, {"result": "0007", "message": None})

    def test_search_without_a_phone_returns_0007(self, ann: UserClient) -> None:
        assert ann.post("/friend", search="1").body == {"result": "0007", "message": None}


class TestAdd:
    def test_friend_request_creates_a_message_for_each_user(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        assert ann.send_friend_request(ben).body == {"result": "0000", "message": None}
        assert [message["flag"] for message in ann.messages()] == [2]
        assert [message["flag"] for message in ben.messages()] == [0]
        assert ann.friends() == []

    def test_repeated_friend_request_changes_nothing(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        with database_state.assert_unchanged():
            assert ann.send_friend_request(ben).result == "0000"

    def test_friend_requests_in_both_directions_create_a_friendship(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        assert ben.send_friend_request(ann).result == "0000"
        assert [friend["userId"] for friend in ann.friends()] == [ben.phone]
        assert [friend["userId"] for friend in ben.friends()] == [ann.phone]
        assert [message["flag"] for message in ann.messages()] == [3]
        assert [message["flag"] for message in ben.messages()] == [1]

    def test_friend_request_to_a_friend_returns_0010(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.befriend(ben)
        for user, other in [(ann, ben), (ben, ann)]:
            with database_state.assert_unchanged():
                response = user.send_friend_request(other)
            assert (response.status, response.body) == (200, {"result": "0010", "message": None})

    def test_friend_request_to_own_phone_returns_0006(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = ann.send_friend_request(ann)
        assert response.body == {"result": "0006", "message": None}
        assert response.error == "userId; reason=own_account"

    @pytest.mark.parametrize("phone", [UNKNOWN_PHONE, *MALFORMED_PHONES])
    def test_friend_request_to_an_unknown_or_invalid_phone_returns_0007(
        self, phone: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = ann.post("/friend", add="1", userId=phone)
        assert (response.status, response.body) == (200, {"result": "0007", "message": None})

    def test_friend_request_to_a_former_friend_can_be_accepted(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.befriend(ben)
        unfriend(ann, ben.phone)
        ann.befriend(ben)
        assert len(ann.friends()) == 1

    def test_message_ids_of_rapid_friend_requests_are_unique(
        self, ann: UserClient, api: ApiClient
    ) -> None:
        for n in range(20):
            ann.send_friend_request(api.register_user(f"138000001{n:02d}"))
        ids = [message[name] for message in ann.messages() for name in ("verifyId", "objectId")]
        assert len({message_id.partition(",")[2] for message_id in ids}) == 20


class TestAccept:
    def test_accept_by_the_addressee_creates_a_friendship(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        assert ben.deal_message(ben.messages()[0], "accept").body == {
            "result": "0000",
            "message": None,
        }
        assert [friend["userId"] for friend in ann.friends()] == [ben.phone]
        assert [friend["userId"] for friend in ben.friends()] == [ann.phone]

    def test_accept_with_full_width_commas_in_the_ids_succeeds(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        (message,) = ben.messages()
        full_width_ids = {
            name: message[name].replace(",", "，") for name in ("verifyId", "objectId")
        }
        assert ben.deal_message(message, "accept", **full_width_ids).result == "0000"
        assert len(ben.friends()) == 1

    def test_repeated_accept_between_friends_changes_nothing(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.befriend(ben)
        with database_state.assert_unchanged():
            assert ben.deal_message(ben.messages()[0], "accept").result == "0000"

    def test_repeated_accept_after_unfriending_returns_0006(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.befriend(ben)
        unfriend(ben, ann.phone)
        with database_state.assert_unchanged():
            assert ben.deal_message(ben.messages()[0], "accept").result == "0006"

    def test_accept_of_an_old_message_does_not_accept_a_newer_request(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.befriend(ben)
        old_message = ben.messages()[0]
        unfriend(ben, ann.phone)
        ann.send_friend_request(ben)
        with database_state.assert_unchanged():
            assert ben.deal_message(old_message, "accept").result == "0006"

    def test_accept_by_the_applicant_returns_0006(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        for changed_parameters in ({}, {"userId": ann.phone}):
            with database_state.assert_unchanged():
                assert (
                    ann.deal_message(ann.messages()[0], "accept", **changed_parameters).result
                    == "0006"
                )

    def test_accept_by_a_third_user_returns_0006(
        self, ann: UserClient, ben: UserClient, cat: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        with database_state.assert_unchanged():
            assert cat.deal_message(ben.messages()[0], "accept").result == "0006"

    def test_accept_with_mixed_ids_of_two_requests_returns_0006(
        self, ann: UserClient, ben: UserClient, cat: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        cat.send_friend_request(ben)
        message_from_cat, message_from_ann = ben.messages()
        with database_state.assert_unchanged():
            for message, other_message in [
                (message_from_ann, message_from_cat),
                (message_from_cat, message_from_ann),
            ]:
                mixed_ids = {"objectId": other_message["objectId"]}
                assert ben.deal_message(message, "accept", **mixed_ids).result == "0006"
                swapped_ids = {"verifyId": message["objectId"], "objectId": message["verifyId"]}
                assert ben.deal_message(message, "accept", **swapped_ids).result == "0006"
                assert (
                    ben.deal_message(message, "accept", userId=other_message["userId"]).result
                    == "0006"
                )

    def test_accept_with_only_one_valid_id_returns_0006(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        (message,) = ben.messages()
        with database_state.assert_unchanged():
            for changed_parameters in (
                {"verifyId": f"{ben.phone},1"},
                {"objectId": f"{ann.phone},1"},
                {"objectId": f"{ann.phone},{int(message['objectId'][12:]) + 1}"},
            ):
                assert ben.deal_message(message, "accept", **changed_parameters).result == "0006"

    def test_accept_with_unknown_ids_accepts_the_only_open_request(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        (message,) = ben.messages()
        unknown_ids = {"verifyId": f"{ben.phone},1", "objectId": f"{ann.phone},2"}
        assert ben.deal_message(message, "accept", **unknown_ids).result == "0000"
        assert len(ben.friends()) == 1
        with database_state.assert_unchanged():
            assert ben.deal_message(message, "accept", **unknown_ids).result == "0000"
        ben.post("/friend", delete="1", userId=ann.phone)
        with database_state.assert_unchanged():
            assert ben.deal_message(message, "accept", **unknown_ids).result == "0006"

    def test_accept_with_unknown_ids_and_no_received_request_returns_0006(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        unknown_ids = {"verifyId": f"{ben.phone},1", "objectId": f"{ann.phone},2"}
        with database_state.assert_unchanged():
            # Only Ben, the addressee, can accept the request.
            assert ann.deal_message(ann.messages()[0], "accept", **unknown_ids).result == "0006"

    def test_accept_of_a_declined_request_returns_0006(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        (message,) = ben.messages()
        ben.deal_message(message, "delete")
        with database_state.assert_unchanged():
            assert ben.deal_message(message, "accept").result == "0006"

    def test_accept_succeeds_after_the_applicant_deleted_their_message(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        ann.deal_message(ann.messages()[0], "delete")
        assert ben.deal_message(ben.messages()[0], "accept").result == "0000"
        assert len(ann.friends()) == 1


class TestDeleteMessage:
    def test_message_delete_hides_the_message_only_from_the_requesting_user(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.befriend(ben)
        assert ben.deal_message(ben.messages()[0], "delete").body == {
            "result": "0000",
            "message": None,
        }
        assert ben.messages() == []
        assert [message["flag"] for message in ann.messages()] == [3]
        assert len(ann.friends()) == len(ben.friends()) == 1

    @pytest.mark.parametrize("role", ["applicant", "addressee"])
    def test_message_delete_accepts_the_phone_of_either_user(
        self, role: str, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        phone = ann.phone if role == "applicant" else ben.phone
        assert ben.deal_message(ben.messages()[0], "delete", userId=phone).result == "0000"
        assert ann.deal_message(ann.messages()[0], "delete", userId=phone).result == "0000"

    def test_repeated_message_delete_changes_nothing(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        (message_of_ann,), (message_of_ben,) = ann.messages(), ben.messages()
        ann.deal_message(message_of_ann, "delete")
        ben.deal_message(message_of_ben, "delete")
        with database_state.assert_unchanged():
            assert ann.deal_message(message_of_ann, "delete").result == "0000"
            assert ben.deal_message(message_of_ben, "delete").result == "0000"

    def test_message_delete_by_the_addressee_declines_the_request(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        ben.deal_message(ben.messages()[0], "delete")
        # Ann still sees the request as sent, although Ben declined it, and can send it again.
        assert [message["flag"] for message in ann.messages()] == [2]
        assert ann.send_friend_request(ben).result == "0000"
        assert [message["flag"] for message in ben.messages()] == [0]

    def test_message_delete_by_the_applicant_leaves_the_request_open(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.send_friend_request(ben)
        ann.deal_message(ann.messages()[0], "delete")
        assert ann.messages() == []
        assert [message["flag"] for message in ben.messages()] == [0]

    def test_message_delete_by_a_third_user_returns_0006(
        self, ann: UserClient, ben: UserClient, cat: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        with database_state.assert_unchanged():
            response = cat.deal_message(ann.messages()[0], "delete")
        assert response.body == {"result": "0006", "message": None}

    def test_message_delete_with_ids_of_different_requests_returns_0006(
        self, ann: UserClient, ben: UserClient, cat: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        cat.send_friend_request(ben)
        message_from_cat, message_from_ann = ben.messages()
        with database_state.assert_unchanged():
            for changed_parameters in (
                {"objectId": message_from_ann["objectId"]},
                {"verifyId": message_from_ann["verifyId"]},
                {"verifyId": f"{ben.phone},1", "objectId": f"{cat.phone},1"},
                {"userId": ann.phone},
                {"userId": UNKNOWN_PHONE},
            ):
                assert (
                    ben.deal_message(message_from_cat, "delete", **changed_parameters).result
                    == "0006"
                )


class TestDealMessage:
    """The operation dealMessage, which accepts a friend request or deletes a message."""

    @pytest.mark.parametrize("behaviour", ["accept", "delete"])
    @pytest.mark.parametrize(
        "changed_parameters",
        [
            {"userId": ""},
            {"userId": "1"},
            {"userId": UNKNOWN_PHONE},
            {"verifyId": ""},
            {"verifyId": "13800000002"},
            {"verifyId": "13800000002,"},
            {"verifyId": "13800000002,1,2"},
            {"verifyId": "13800000002,１"},
            {"verifyId": "13800000002," + "9" * 19},
            {"verifyId": "13800000002;1"},
            {"verifyId": "13800000002,-1"},
            {"verifyId": "13800000002, 1"},
            {"objectId": "0,1"},
            {"objectId": ""},
            {"behaviour": ""},
            {"behaviour": "Accept"},
            {"behaviour": "decline"},
        ],
    )
    def test_deal_message_with_an_invalid_parameter_returns_0006(
        self,
        changed_parameters: dict[str, str],
        behaviour: str,
        ann: UserClient,
        ben: UserClient,
        database_state: DatabaseState,
    ) -> None:
        ann.send_friend_request(ben)
        (message,) = ben.messages()
        parameters: dict[str, Any] = {"behaviour": behaviour, **changed_parameters}
        with database_state.assert_unchanged():
            response = ben.deal_message(message, **parameters)
        assert (response.status, response.body) == (200, {"result": "0006", "message": None})


class TestUnfriend:
    def test_unfriend_ends_the_friendship_for_both_users(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.befriend(ben)
        assert unfriend(ben, ann.phone).body == {"result": "0000", "message": None}
        assert ann.friends() == ben.friends() == []
        assert unfriend(ben, ann.phone).result == unfriend(ann, ben.phone).result == "0006"

    @pytest.mark.parametrize(
        "phone", [UNKNOWN_PHONE, "13800000002", "13800000001", *MALFORMED_PHONES]
    )
    def test_unfriend_of_a_user_who_is_not_a_friend_returns_0006(
        self, phone: str, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.send_friend_request(ben)
        with database_state.assert_unchanged():
            response = unfriend(ann, phone)
        assert (response.status, response.body) == (200, {"result": "0006", "message": None})

    def test_unfriend_without_a_phone_returns_0006(self, ann: UserClient) -> None:
        assert ann.post("/friend", delete="1").body == {"result": "0006", "message": None}

    def test_unfriend_keeps_other_friends(
        self, ann: UserClient, ben: UserClient, cat: UserClient
    ) -> None:
        ann.befriend(ben)
        ann.befriend(cat)
        unfriend(ann, ben.phone)
        assert [friend["userId"] for friend in ann.friends()] == [cat.phone]


class TestFriendLimit:
    @pytest.fixture
    def app(self, new_app: Callable[..., App]) -> App:
        return new_app(friends__max="2")

    @pytest.fixture
    def dan(self, api: ApiClient) -> UserClient:
        return api.register_user("13800000004")

    @pytest.fixture
    def user_at_limit(self, ann: UserClient, ben: UserClient, cat: UserClient) -> UserClient:
        ann.befriend(ben)
        ann.befriend(cat)
        return ann

    def test_friend_request_at_the_friend_limit_returns_0006(
        self, user_at_limit: UserClient, dan: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = user_at_limit.send_friend_request(dan)
        assert (response.result, response.error) == (
            "0006",
            "token; reason=too_many_friends; max=2",
        )

    def test_accept_at_the_friend_limit_returns_0006(
        self,
        user_at_limit: UserClient,
        dan: UserClient,
        database_state: DatabaseState,
    ) -> None:
        dan.send_friend_request(user_at_limit)
        with database_state.assert_unchanged():
            responses = [
                user_at_limit.deal_message(user_at_limit.messages()[0], "accept"),
                user_at_limit.send_friend_request(dan),
            ]
        assert [(response.result, response.error) for response in responses] == [
            ("0006", "token; reason=too_many_friends; max=2")
        ] * 2

    def test_accept_of_a_request_from_a_user_at_the_friend_limit_returns_0006(
        self, ann: UserClient, ben: UserClient, cat: UserClient, dan: UserClient
    ) -> None:
        ann.send_friend_request(dan)
        ann.befriend(ben)
        ann.befriend(cat)
        response = dan.deal_message(dan.messages()[0], "accept")
        assert (response.result, response.error) == (
            "0006",
            "userId; reason=too_many_friends; max=2",
        )
