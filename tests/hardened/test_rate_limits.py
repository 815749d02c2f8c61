"""Tests of the rate limits of production.ini."""

from collections.abc import Callable

import pytest

from tests.support.api import ApiResponse, UserClient
from tests.support.database_state import AssertNoSideEffects, DatabaseState
from tests.support.pictures import PNG, upload


@pytest.mark.parametrize(
    ("send_request", "limit", "expected_result"),
    [
        pytest.param(
            lambda ann: ann.post("/friend", search="1", userId=ann.phone), 100, "0006", id="search"
        ),
        pytest.param(
            lambda ann: ann.post("/friend", add="1", userId="13800000002"),
            60,
            "0006",
            id="friend request",
        ),
        pytest.param(lambda ann: ann.refill("10"), 30, "0013", id="refill"),
        pytest.param(lambda ann: upload(ann, PNG), 10, "0006", id="upload"),
    ],
)
def test_request_over_the_hourly_limit_fails_without_side_effects(
    send_request: Callable[[UserClient], ApiResponse],
    limit: int,
    expected_result: str,
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    assert [send_request(ann).result for _ in range(limit)] == ["0000"] * limit
    with assert_no_side_effects():
        response = send_request(ann)
    assert (response.status, response.result) == (200, expected_result)
    assert response.error == "request; reason=rate_limited"
    assert 0 < int(response.headers["Retry-After"]) <= 3600
    assert ann.friends() == []
    database_state.execute("DELETE FROM rate_limit_counters")  # as if an hour had passed
    assert send_request(ann).result == "0000"


def test_refill_retries_have_a_separate_rate_limit(
    ann: UserClient, database_state: DatabaseState
) -> None:
    assert [ann.refill("10", requestId="r").result for _ in range(121)] == ["0000"] * 121
    with database_state.assert_unchanged():
        response = ann.refill("10", requestId="r")
    assert (response.result, response.error) == ("0013", "request; reason=rate_limited")
    # Retries do not count towards the limit of refills.
    assert [ann.refill("10").result for _ in range(29)] == ["0000"] * 29
    assert ann.refill("10").error == "request; reason=rate_limited"
    assert database_state.coins(ann) == 300


def test_refill_with_a_request_id_of_another_user_counts_as_a_new_refill(
    ann: UserClient, ben: UserClient
) -> None:
    assert ann.refill("10", requestId="r").result == "0000"
    assert [ben.refill("10", requestId=f"r{n}").result for n in range(30)] == ["0000"] * 30
    assert ben.refill("10", requestId="r").error == "request; reason=rate_limited"
