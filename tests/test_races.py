"""Tests of concurrent requests, each in its own thread and transaction."""

from collections.abc import Callable
from functools import partial

import pytest

from livebackend.container import Services
from tests.support.api import PASSWORD, ApiClient, App, UserClient, run_concurrently, sorted_results
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import RecordingStreams

PHONE = "13800000009"


def test_concurrent_registrations_of_one_phone_create_one_account(
    api: ApiClient, database_state: DatabaseState
) -> None:
    register = partial(api.post, "/register", register="1", userId=PHONE, password=PASSWORD)
    assert sorted_results(run_concurrently(*[register] * 20)) == ["0000"] + ["0006"] * 19
    assert len(database_state.rows("accounts")) == len(database_state.rows("coin_accounts")) == 1


def test_verified_phone_can_be_registered_only_once(
    new_app: Callable[..., App], database_state: DatabaseState
) -> None:
    api = ApiClient(new_app(register__verified_phone="required"))
    code = api.post("/register", token=PHONE).message
    assert api.post("/register", code_v=code, code=code).result == "0000"
    register = partial(api.post, "/register", register="1", userId=PHONE, password=PASSWORD)
    assert sorted_results(run_concurrently(*[register] * 20)) == ["0000"] + ["0006"] * 19
    assert [row["state"] for row in database_state.rows("verification_codes")] == ["used"]


def test_concurrent_wrong_codes_are_all_counted(api: ApiClient) -> None:
    submit_wrong_code = partial(api.post, "/register", code_v="1234", code="0000")
    assert (
        sorted_results(run_concurrently(*[submit_wrong_code] * 20)) == ["0004"] * 4 + ["0005"] * 16
    )


@pytest.mark.parametrize("repetition", range(10))
def test_mutual_friend_requests_create_one_friendship(
    repetition: int, ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    responses = run_concurrently(
        lambda: ann.send_friend_request(ben), lambda: ben.send_friend_request(ann)
    )
    assert sorted_results(responses) == ["0000", "0000"]
    assert len(database_state.rows("friendships")) == 2  # each user has a row for the friendship
    assert [row["state"] for row in database_state.rows("friend_requests")] == ["accepted"]


def test_concurrent_friend_requests_create_one_request(
    ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    assert (
        sorted_results(run_concurrently(*[lambda: ann.send_friend_request(ben)] * 20))
        == ["0000"] * 20
    )
    assert len(database_state.rows("friend_requests")) == 1


def test_concurrent_accepts_create_one_friendship(
    ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.send_friend_request(ben)
    (message,) = ben.messages()
    responses = run_concurrently(*[lambda: ben.deal_message(message, "accept")] * 20)
    assert sorted_results(responses) == ["0000"] * 20
    assert len(database_state.rows("friendships")) == 2


@pytest.mark.parametrize("repetition", range(10))
def test_concurrent_accept_and_decline_have_one_consistent_result(
    repetition: int, ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.send_friend_request(ben)
    (message,) = ben.messages()
    run_concurrently(
        lambda: ben.deal_message(message, "accept"), lambda: ben.deal_message(message, "delete")
    )
    (request,) = database_state.rows("friend_requests")
    friendship_rows = len(database_state.rows("friendships"))
    assert (request["state"], friendship_rows) in [("accepted", 2), ("declined", 0)]


@pytest.mark.parametrize("repetition", range(10))
def test_concurrent_accept_and_unfriend_keep_the_friendship_symmetric(
    repetition: int, ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.send_friend_request(ben)
    (message,) = ben.messages()
    unfriend = partial(ann.post, "/friend", delete="1", userId=ben.phone)
    run_concurrently(lambda: ben.deal_message(message, "accept"), unfriend)
    assert len(ann.friends()) == len(ben.friends())
    assert len(database_state.rows("friendships")) in (0, 2)


def test_concurrent_friend_requests_have_different_ids(api: ApiClient, ann: UserClient) -> None:
    applicants = [api.register_user(f"138000001{n:02d}") for n in range(20)]
    responses = run_concurrently(
        *[partial(applicant.send_friend_request, ann) for applicant in applicants]
    )
    assert sorted_results(responses) == ["0000"] * 20
    assert len({message["verifyId"] for message in ann.messages()}) == 20


def test_concurrent_go_live_requests_create_one_room(
    new_app: Callable[..., App], ann: UserClient, database_state: DatabaseState
) -> None:
    app = new_app(streams__gateway="tests.support.fake_gateways.RecordingStreams")
    services: Services = app.registry.services
    stream_gateway = services.gateways.streams
    assert isinstance(stream_gateway, RecordingStreams)
    created_count_before = len(stream_gateway.created)
    host = ann.with_app(app)
    responses = run_concurrently(*[host.go_live] * 20)
    assert sorted_results(responses) == ["0000"] * 20
    assert len({response.message for response in responses}) == 1
    assert len(database_state.rows("rooms")) == 1
    assert len(stream_gateway.created) - created_count_before == 1


def test_concurrent_leave_requests_close_the_room_once(ann: UserClient) -> None:
    ann.go_live()
    responses = run_concurrently(*[partial(ann.post, "/room", leave="1")] * 20)
    assert sorted_results(responses) == ["0000"] + ["0009"] * 19


def test_concurrent_gifts_stop_at_the_balance(
    ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.refill("100")
    responses = run_concurrently(*[lambda: ann.send_gift(ben, "30")] * 20)
    assert sorted_results(responses) == ["0000"] * 3 + ["0013"] * 17
    assert (database_state.coins(ann), database_state.coins(ben)) == (10, 90)


def test_concurrent_gifts_with_one_request_id_move_coins_once(
    ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.refill("100")
    responses = run_concurrently(*[lambda: ann.send_gift(ben, "30", requestId="g")] * 20)
    assert sorted_results(responses) == ["0000"] * 20
    assert (database_state.coins(ann), database_state.coins(ben)) == (70, 30)


def test_concurrent_gifts_with_one_request_id_and_two_amounts_move_coins_once(
    ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.refill("100")
    gifts = [partial(ann.send_gift, ben, str(10 + n % 2), requestId="g") for n in range(20)]
    responses = run_concurrently(*gifts)
    assert sorted_results(responses) == ["0000"] * 10 + ["0013"] * 10
    assert database_state.coins(ben) in (10, 11)


def test_concurrent_gifts_among_six_users_neither_deadlock_nor_lose_coins(
    api: ApiClient, database_state: DatabaseState
) -> None:
    users = [api.register_user(f"138000001{n:02d}") for n in range(6)]
    for user in users:
        user.refill("100")

    def give_to_all_others(index: int) -> list[str]:
        giver = users[index]
        return [
            giver.send_gift(users[(index + 1 + n) % 6], str(5 + n)).result
            for n in range(12)
            if (index + 1 + n) % 6 != index
        ]

    responses = run_concurrently(*[partial(give_to_all_others, index % 6) for index in range(12)])
    assert {result for results_of_thread in responses for result in results_of_thread} <= {
        "0000",
        "0013",
    }
    assert sum(map(database_state.coins, users)) == 600
    assert min(row["amount"] for row in database_state.rows("coin_slots")) >= 0
