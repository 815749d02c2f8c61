"""Calls at the same moment, each in a thread and a transaction of its own."""

from collections.abc import Callable
from functools import partial

import pytest

from livebackend.container import Services
from tests.support.api import PASSWORD, Api, App, Person, at_once, results
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import CountedStreams

PHONE = "13800000009"


def test_twenty_registrations_of_one_phone_make_one_account(
    api: Api, database_state: DatabaseState
) -> None:
    register = partial(api.post, "/register", register="1", userId=PHONE, password=PASSWORD)
    assert results(at_once(*[register] * 20)) == ["0000"] + ["0006"] * 19
    assert len(database_state.rows("accounts")) == len(database_state.rows("coin_accounts")) == 1


def test_one_verification_is_used_up_once(
    new_app: Callable[..., App], database_state: DatabaseState
) -> None:
    api = Api(new_app(register__verified_phone="required"))
    code = api.post("/register", token=PHONE).message
    assert api.post("/register", code_v=code, code=code).result == "0000"
    register = partial(api.post, "/register", register="1", userId=PHONE, password=PASSWORD)
    assert results(at_once(*[register] * 20)) == ["0000"] + ["0006"] * 19
    assert [row["state"] for row in database_state.rows("verification_codes")] == ["used"]


def test_no_wrong_try_is_lost(api: Api) -> None:
    guess = partial(api.post, "/register", code_v="1234", code="0000")
    assert results(at_once(*[guess] * 20)) == ["0004"] * 4 + ["0005"] * 16


@pytest.mark.parametrize("turn", range(10))
def test_crossing_adds_end_as_one_friendship(
    turn: int, ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    answers = at_once(lambda: ann.add(ben), lambda: ben.add(ann))
    assert results(answers) == ["0000", "0000"]
    assert len(database_state.rows("friendships")) == 2  # one, seen from either side
    assert [row["state"] for row in database_state.rows("friend_requests")] == ["accepted"]


def test_twenty_adds_make_one_request(
    ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    assert results(at_once(*[lambda: ann.add(ben)] * 20)) == ["0000"] * 20
    assert len(database_state.rows("friend_requests")) == 1


def test_twenty_accepts_make_one_friendship(
    ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    ann.add(ben)
    (message,) = ben.messages()
    answers = at_once(*[lambda: ben.deal(message, "accept")] * 20)
    assert results(answers) == ["0000"] * 20
    assert len(database_state.rows("friendships")) == 2


@pytest.mark.parametrize("turn", range(10))
def test_accepting_and_declining_at_once_is_one_of_them(
    turn: int, ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    ann.add(ben)
    (message,) = ben.messages()
    at_once(lambda: ben.deal(message, "accept"), lambda: ben.deal(message, "delete"))
    (request,) = database_state.rows("friend_requests")
    friends = len(database_state.rows("friendships"))
    assert (request["state"], friends) in [("accepted", 2), ("declined", 0)]


@pytest.mark.parametrize("turn", range(10))
def test_accepting_and_parting_at_once_leaves_both_or_neither(
    turn: int, ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    ann.add(ben)
    (message,) = ben.messages()
    part = partial(ann.post, "/friend", delete="1", userId=ben.phone)
    at_once(lambda: ben.deal(message, "accept"), part)
    assert len(ann.friends()) == len(ben.friends())
    assert len(database_state.rows("friendships")) in (0, 2)


def test_many_requests_at_one_moment_have_ids_of_their_own(api: Api, ann: Person) -> None:
    people = [api.person(f"138000001{n:02d}") for n in range(20)]
    answers = at_once(*[partial(person.add, ann) for person in people])
    assert results(answers) == ["0000"] * 20
    assert len({message["verifyId"] for message in ann.messages()}) == 20


def test_twenty_lives_make_one_room(
    new_app: Callable[..., App], ann: Person, database_state: DatabaseState
) -> None:
    app = new_app(streams__gateway="tests.support.fake_gateways.CountedStreams")
    services: Services = app.registry.services
    streams = services.gateways.streams
    assert isinstance(streams, CountedStreams)
    before = len(streams.created)
    caller = Person(app, ann.always, ann.phone)
    answers = at_once(*[caller.live] * 20)
    assert results(answers) == ["0000"] * 20
    assert len({answer.message for answer in answers}) == 1
    assert len(database_state.rows("rooms")) == 1
    assert len(streams.created) - before == 1


def test_twenty_leaves_close_one_room(ann: Person) -> None:
    ann.live()
    answers = at_once(*[partial(ann.post, "/room", leave="1")] * 20)
    assert results(answers) == ["0000"] + ["0009"] * 19


def test_twenty_gifts_of_30_out_of_100_are_three(
    ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    ann.refill("100")
    answers = at_once(*[lambda: ann.give(ben, "30")] * 20)
    assert results(answers) == ["0000"] * 3 + ["0013"] * 17
    assert (database_state.coins(ann), database_state.coins(ben)) == (10, 90)


def test_one_request_id_moves_coins_once(
    ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    ann.refill("100")
    answers = at_once(*[lambda: ann.give(ben, "30", requestId="g")] * 20)
    assert results(answers) == ["0000"] * 20
    assert (database_state.coins(ann), database_state.coins(ben)) == (70, 30)


def test_one_request_id_with_two_contents_moves_one(
    ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    ann.refill("100")
    gifts = [partial(ann.give, ben, str(10 + n % 2), requestId="g") for n in range(20)]
    answers = at_once(*gifts)
    assert results(answers) == ["0000"] * 10 + ["0013"] * 10
    assert database_state.coins(ben) in (10, 11)


def test_gifts_in_all_directions_neither_hang_nor_lose_coins(
    api: Api, database_state: DatabaseState
) -> None:
    people = [api.person(f"138000001{n:02d}") for n in range(6)]
    for person in people:
        person.refill("100")

    def spree(index: int) -> list[str]:
        person = people[index]
        return [
            person.give(people[(index + 1 + n) % 6], str(5 + n)).result
            for n in range(12)
            if (index + 1 + n) % 6 != index
        ]

    answers = at_once(*[partial(spree, index % 6) for index in range(12)])
    assert {result for each in answers for result in each} <= {"0000", "0013"}
    assert sum(map(database_state.coins, people)) == 600
    assert min(row["amount"] for row in database_state.rows("coin_slots")) >= 0
