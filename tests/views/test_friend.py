"""Finding people, asking, answering, parting."""

from collections.abc import Callable
from typing import Any

import pytest

from livebackend.container import Services
from tests.support.api import Answer, Api, App, Person
from tests.support.database_state import DatabaseState

NOBODY = "13800000077"
MALFORMED = ["", "1380000000", "138000000011", "1380000000a", "１３８０００００００１", "1\0"]


def unfriend(person: Person, phone: str) -> Answer:
    return person.post("/friend", delete="1", userId=phone)


class TestSearch:
    def search(self, person: Person, phone: str) -> Answer:
        return person.post("/friend", search="1", userId=phone)

    def test_a_stranger(self, ann: Person, ben: Person) -> None:
        profile = {"userId": ben.phone, "nickname": "Ben", "gender": None, "headImage": None}
        assert self.search(ann, ben.phone).body == {
            "result": "0000",
            "message": profile,
            "flag": "0",
        }

    def test_a_friend(self, ann: Person, ben: Person) -> None:
        ann.befriend(ben)
        assert self.search(ann, ben.phone).body["flag"] == "1"
        assert self.search(ben, ann.phone).body["flag"] == "1"

    def test_somebody_who_was_asked_is_a_stranger_still(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        assert self.search(ann, ben.phone).body["flag"] == "0"

    def test_oneself(self, ann: Person) -> None:
        assert self.search(ann, ann.phone).body["flag"] == "-1"

    @pytest.mark.parametrize("phone", [NOBODY, *MALFORMED])
    def test_nobody_is_0007_without_a_flag(
        self, phone: str, ann: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = self.search(ann, phone)
        assert (answer.status, answer.body) == (200, {"result": "0007", "message": None})

    def test_a_missing_phone_is_0007(self, ann: Person) -> None:
        assert ann.post("/friend", search="1").body == {"result": "0007", "message": None}


class TestAdd:
    def test_a_request_makes_two_messages(self, ann: Person, ben: Person) -> None:
        assert ann.add(ben).body == {"result": "0000", "message": None}
        assert [message["flag"] for message in ann.messages()] == [2]
        assert [message["flag"] for message in ben.messages()] == [0]
        assert ann.friends() == []

    def test_asking_again_makes_nothing_new(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        with database_state.unchanged():
            assert ann.add(ben).result == "0000"

    def test_the_crossing_request_makes_friends(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        assert ben.add(ann).result == "0000"
        assert [friend["userId"] for friend in ann.friends()] == [ben.phone]
        assert [friend["userId"] for friend in ben.friends()] == [ann.phone]
        assert [message["flag"] for message in ann.messages()] == [3]
        assert [message["flag"] for message in ben.messages()] == [1]

    def test_a_friend_is_0010(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.befriend(ben)
        for one, other in [(ann, ben), (ben, ann)]:
            with database_state.unchanged():
                answer = one.add(other)
            assert (answer.status, answer.body) == (200, {"result": "0010", "message": None})

    def test_oneself_is_0006(self, ann: Person, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            answer = ann.add(ann)
        assert answer.body == {"result": "0006", "message": None}
        assert answer.refusal == "userId is oneself"

    @pytest.mark.parametrize("phone", [NOBODY, *MALFORMED])
    def test_nobody_is_0007(self, phone: str, ann: Person, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            answer = ann.post("/friend", add="1", userId=phone)
        assert (answer.status, answer.body) == (200, {"result": "0007", "message": None})

    def test_who_was_unfriended_can_be_asked_again(self, ann: Person, ben: Person) -> None:
        ann.befriend(ben)
        unfriend(ann, ben.phone)
        ann.befriend(ben)
        assert len(ann.friends()) == 1

    def test_ids_are_unique_however_fast_they_come(self, ann: Person, api: Api) -> None:
        for n in range(20):
            ann.add(api.person(f"138000001{n:02d}"))
        ids = [message[name] for message in ann.messages() for name in ("verifyId", "objectId")]
        assert len({each.partition(",")[2] for each in ids}) == 20


class TestAccept:
    def test_the_addressee_accepts(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        assert ben.deal(ben.messages()[0], "accept").body == {"result": "0000", "message": None}
        assert [friend["userId"] for friend in ann.friends()] == [ben.phone]
        assert [friend["userId"] for friend in ben.friends()] == [ann.phone]

    def test_a_full_width_comma_is_accepted(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        (message,) = ben.messages()
        wide = {name: message[name].replace(",", "，") for name in ("verifyId", "objectId")}
        assert ben.deal(message, "accept", **wide).result == "0000"
        assert len(ben.friends()) == 1

    def test_repeated_among_friends_it_is_nothing_new(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.befriend(ben)
        with database_state.unchanged():
            assert ben.deal(ben.messages()[0], "accept").result == "0000"

    def test_repeated_after_parting_it_is_0006(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.befriend(ben)
        unfriend(ben, ann.phone)
        with database_state.unchanged():
            assert ben.deal(ben.messages()[0], "accept").result == "0006"

    def test_an_old_message_accepts_no_new_request(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.befriend(ben)
        old = ben.messages()[0]
        unfriend(ben, ann.phone)
        ann.add(ben)
        with database_state.unchanged():
            assert ben.deal(old, "accept").result == "0006"

    def test_the_applicant_cannot_accept(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        for changed in ({}, {"userId": ann.phone}):
            with database_state.unchanged():
                assert ann.deal(ann.messages()[0], "accept", **changed).result == "0006"

    def test_a_third_person_cannot_accept(
        self, ann: Person, ben: Person, cat: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        with database_state.unchanged():
            assert cat.deal(ben.messages()[0], "accept").result == "0006"

    def test_the_ids_of_two_requests_accept_neither(
        self, ann: Person, ben: Person, cat: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        cat.add(ben)
        of_cat, of_ann = ben.messages()
        with database_state.unchanged():
            for message, other in [(of_ann, of_cat), (of_cat, of_ann)]:
                mixed = {"objectId": other["objectId"]}
                assert ben.deal(message, "accept", **mixed).result == "0006"
                swapped = {"verifyId": message["objectId"], "objectId": message["verifyId"]}
                assert ben.deal(message, "accept", **swapped).result == "0006"
                assert ben.deal(message, "accept", userId=other["userId"]).result == "0006"

    def test_one_id_that_names_a_message_is_not_enough(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        (message,) = ben.messages()
        with database_state.unchanged():
            for changed in (
                {"verifyId": f"{ben.phone},1"},
                {"objectId": f"{ann.phone},1"},
                {"objectId": f"{ann.phone},{int(message['objectId'][12:]) + 1}"},
            ):
                assert ben.deal(message, "accept", **changed).result == "0006"

    def test_ids_that_name_nothing_fall_back_on_the_one_open_request(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        (message,) = ben.messages()
        made_up = {"verifyId": f"{ben.phone},1", "objectId": f"{ann.phone},2"}
        assert ben.deal(message, "accept", **made_up).result == "0000"
        assert len(ben.friends()) == 1
        with database_state.unchanged():
            assert ben.deal(message, "accept", **made_up).result == "0000"
        ben.post("/friend", delete="1", userId=ann.phone)
        with database_state.unchanged():
            assert ben.deal(message, "accept", **made_up).result == "0006"

    def test_ids_that_name_nothing_accept_nothing_without_a_request(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        made_up = {"verifyId": f"{ben.phone},1", "objectId": f"{ann.phone},2"}
        with database_state.unchanged():
            # It is ben's to accept, not ann's.
            assert ann.deal(ann.messages()[0], "accept", **made_up).result == "0006"

    def test_a_declined_request_is_not_accepted(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        (message,) = ben.messages()
        ben.deal(message, "delete")
        with database_state.unchanged():
            assert ben.deal(message, "accept").result == "0006"

    def test_a_copy_that_was_deleted_still_lends_its_id(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        ann.deal(ann.messages()[0], "delete")
        assert ben.deal(ben.messages()[0], "accept").result == "0000"
        assert len(ann.friends()) == 1


class TestDelete:
    def test_it_removes_ones_own_copy_only(self, ann: Person, ben: Person) -> None:
        ann.befriend(ben)
        assert ben.deal(ben.messages()[0], "delete").body == {"result": "0000", "message": None}
        assert ben.messages() == []
        assert [message["flag"] for message in ann.messages()] == [3]
        assert len(ann.friends()) == len(ben.friends()) == 1

    @pytest.mark.parametrize("side", ["applicant", "addressee"])
    def test_userid_may_be_either_side(self, side: str, ann: Person, ben: Person) -> None:
        ann.add(ben)
        phone = ann.phone if side == "applicant" else ben.phone
        assert ben.deal(ben.messages()[0], "delete", userId=phone).result == "0000"
        assert ann.deal(ann.messages()[0], "delete", userId=phone).result == "0000"

    def test_repeated_it_is_nothing_new(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        (mine,), (theirs,) = ann.messages(), ben.messages()
        ann.deal(mine, "delete")
        ben.deal(theirs, "delete")
        with database_state.unchanged():
            assert ann.deal(mine, "delete").result == "0000"
            assert ben.deal(theirs, "delete").result == "0000"

    def test_the_addressee_declines_an_open_request(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        ben.deal(ben.messages()[0], "delete")
        # Nobody tells the applicant, who may ask again.
        assert [message["flag"] for message in ann.messages()] == [2]
        assert ann.add(ben).result == "0000"
        assert [message["flag"] for message in ben.messages()] == [0]

    def test_the_applicant_leaves_the_request_open(self, ann: Person, ben: Person) -> None:
        ann.add(ben)
        ann.deal(ann.messages()[0], "delete")
        assert ann.messages() == []
        assert [message["flag"] for message in ben.messages()] == [0]

    def test_a_third_person_deletes_nothing(
        self, ann: Person, ben: Person, cat: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        with database_state.unchanged():
            answer = cat.deal(ann.messages()[0], "delete")
        assert answer.body == {"result": "0006", "message": None}

    def test_ids_that_are_not_the_two_of_one_request_are_0006(
        self, ann: Person, ben: Person, cat: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        cat.add(ben)
        of_cat, of_ann = ben.messages()
        with database_state.unchanged():
            for changed in (
                {"objectId": of_ann["objectId"]},
                {"verifyId": of_ann["verifyId"]},
                {"verifyId": f"{ben.phone},1", "objectId": f"{cat.phone},1"},
                {"userId": ann.phone},
                {"userId": NOBODY},
            ):
                assert ben.deal(of_cat, "delete", **changed).result == "0006"


class TestDealMessage:
    @pytest.mark.parametrize("behaviour", ["accept", "delete"])
    @pytest.mark.parametrize(
        "changed",
        [
            {"userId": ""},
            {"userId": "1"},
            {"userId": NOBODY},
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
    def test_a_faulty_parameter_is_0006(
        self,
        changed: dict[str, str],
        behaviour: str,
        ann: Person,
        ben: Person,
        database_state: DatabaseState,
    ) -> None:
        ann.add(ben)
        (message,) = ben.messages()
        form: dict[str, Any] = {"behaviour": behaviour, **changed}
        with database_state.unchanged():
            answer = ben.deal(message, **form)
        assert (answer.status, answer.body) == (200, {"result": "0006", "message": None})


class TestUnfriend:
    def test_it_ends_for_both(self, ann: Person, ben: Person) -> None:
        ann.befriend(ben)
        assert unfriend(ben, ann.phone).body == {"result": "0000", "message": None}
        assert ann.friends() == ben.friends() == []
        assert unfriend(ben, ann.phone).result == unfriend(ann, ben.phone).result == "0006"

    @pytest.mark.parametrize("phone", [NOBODY, "13800000002", "13800000001", *MALFORMED])
    def test_who_is_no_friend_is_0006(
        self, phone: str, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        with database_state.unchanged():
            answer = unfriend(ann, phone)
        assert (answer.status, answer.body) == (200, {"result": "0006", "message": None})

    def test_a_missing_phone_is_0006(self, ann: Person) -> None:
        assert ann.post("/friend", delete="1").body == {"result": "0006", "message": None}

    def test_other_friends_stay(self, ann: Person, ben: Person, cat: Person) -> None:
        ann.befriend(ben)
        ann.befriend(cat)
        unfriend(ann, ben.phone)
        assert [friend["userId"] for friend in ann.friends()] == [cat.phone]


class TestWithTwoFriendsAtMost:
    @pytest.fixture
    def app(self, new_app: Callable[..., App]) -> App:
        return new_app(friends__max="2")

    @pytest.fixture
    def dan(self, api: Api) -> Person:
        return api.person("13800000004")

    @pytest.fixture
    def full(self, ann: Person, ben: Person, cat: Person) -> Person:
        ann.befriend(ben)
        ann.befriend(cat)
        return ann

    def test_an_add_beyond_is_0006(
        self, full: Person, dan: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = full.add(dan)
        assert (answer.result, answer.refusal) == ("0006", "token would have too many friends")

    def test_an_accept_beyond_is_0006(
        self, full: Person, dan: Person, database_state: DatabaseState, services: Services
    ) -> None:
        dan.add(full)
        with database_state.unchanged():
            assert full.deal(full.messages()[0], "accept").result == "0006"
            assert full.add(dan).result == "0006"
