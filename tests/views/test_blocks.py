"""Whom one does not want to hear from."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.support.api import Api, App, Person, at_once
from tests.support.database_state import DatabaseState


def block(person: Person, other: Person) -> None:
    answer = person.post("/friend", block="1", userId=other.phone)
    assert answer.body == {"result": "0000", "message": None}


def unblock(person: Person, other: Person) -> None:
    answer = person.post("/friend", unblock="1", userId=other.phone)
    assert answer.body == {"result": "0000", "message": None}


def test_a_blocked_ones_request_is_never_seen(ann: Person, ben: Person) -> None:
    block(ann, ben)
    # He is told what anybody is told.
    assert ben.add(ann).body == {"result": "0000", "message": None}
    assert ben.add(ann).result == "0000"
    assert [message["flag"] for message in ben.messages()] == [2]
    assert ann.messages() == []


def test_nor_is_it_accepted_by_ids_that_are_guessed(
    ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    block(ann, ben)
    ben.add(ann)
    (message,) = ben.messages()
    with database_state.unchanged():
        assert ann.deal({**message, "userId": ben.phone}, "accept").result == "0006"


def test_blocking_ends_a_friendship_and_open_requests(
    ann: Person, ben: Person, cat: Person, database_state: DatabaseState
) -> None:
    ann.befriend(ben)
    cat.add(ann)
    block(ann, ben)
    block(ann, cat)
    assert ann.friends() == ben.friends() == []
    # What was accepted stays as a message; what was open is gone, and he does not see it.
    assert [message["flag"] for message in ann.messages()] == [3]
    assert [message["flag"] for message in cat.messages()] == [2]


def test_ones_own_open_request_is_withdrawn(ann: Person, ben: Person) -> None:
    ann.add(ben)
    (message,) = ben.messages()
    block(ann, ben)
    assert ann.messages() == ben.messages() == []
    assert ben.deal(message, "accept").result == "0006"


def test_whoever_blocks_does_not_ask(
    ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    block(ann, ben)
    with database_state.unchanged():
        answer = ann.add(ben)
    assert (answer.result, answer.refusal) == ("0006", "userId is blocked by oneself")


def test_his_next_request_is_seen_once_he_is_unblocked(ann: Person, ben: Person) -> None:
    block(ann, ben)
    ben.add(ann)
    unblock(ann, ben)
    assert ann.messages() == []
    assert ben.add(ann).result == "0000"
    assert ann.deal(ann.messages()[0], "accept").result == "0000"
    assert [friend["userId"] for friend in ben.friends()] == [ann.phone]


def test_two_who_block_each_other_both_must_unblock(ann: Person, ben: Person) -> None:
    block(ann, ben)
    block(ben, ann)
    unblock(ann, ben)
    assert ann.add(ben).result == "0000"
    assert ben.messages() == []
    unblock(ben, ann)
    ann.add(ben)
    assert [message["flag"] for message in ben.messages()] == [0]


def test_repeated_nothing_is_new(ann: Person, ben: Person, database_state: DatabaseState) -> None:
    block(ann, ben)
    with database_state.unchanged():
        block(ann, ben)
    unblock(ann, ben)
    with database_state.unchanged():
        unblock(ann, ben)


@pytest.mark.parametrize("selector", ["block", "unblock"])
def test_oneself_is_0006_and_nobody_0007(
    selector: str, ann: Person, database_state: DatabaseState
) -> None:
    with database_state.unchanged():
        for phone, result in ((ann.phone, "0006"), ("13800000077", "0007"), ("1", "0007")):
            assert ann.post("/friend", **{selector: "1"}, userId=phone).result == result
        assert ann.post("/friend", **{selector: "1"}).result == "0007"


def test_there_is_an_end_to_it(
    new_app: Callable[..., App],
    ann: Person,
    ben: Person,
    cat: Person,
    database_state: DatabaseState,
) -> None:
    few = Person(new_app(friends__max="1"), ann.always, ann.phone)
    block(few, ben)
    with database_state.unchanged():
        answer = few.post("/friend", block="1", userId=cat.phone)
    assert (answer.result, answer.refusal) == ("0006", "userId would be one blocked too many")


def test_blocked_or_not_the_search_is_the_same(ann: Person, ben: Person, api: Api) -> None:
    before = ben.post("/friend", search="1", userId=ann.phone)
    block(ann, ben)
    assert ben.post("/friend", search="1", userId=ann.phone).body == before.body


@pytest.mark.parametrize("turn", range(10))
def test_blocking_and_asking_at_once_leaves_nothing_to_see(
    turn: int, ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    answers = at_once(partial(block, ann, ben), partial(ben.add, ann), partial(ann.add, ben))
    assert answers[1].result in ("0000", "0010")
    assert database_state.rows("friendships") == []
    assert not [message for message in ann.messages() if message["flag"] == 0]
