"""The limits of production.ini: so many calls, and the next is refused."""

from collections.abc import Callable

import pytest

from tests.support.api import Answer, Person
from tests.support.database_state import AssertNoSideEffects, DatabaseState
from tests.support.pictures import PNG, upload


@pytest.mark.parametrize(
    ("call", "most", "refusal"),
    [
        pytest.param(
            lambda ann: ann.post("/friend", search="1", userId=ann.phone), 100, "0006", id="search"
        ),
        pytest.param(
            lambda ann: ann.post("/friend", add="1", userId="13800000002"), 60, "0006", id="add"
        ),
        pytest.param(lambda ann: ann.refill("10"), 30, "0013", id="refill"),
        pytest.param(lambda ann: upload(ann, PNG), 10, "0006", id="upload"),
    ],
)
def test_so_many_in_an_hour_and_no_more(
    call: Callable[[Person], Answer],
    most: int,
    refusal: str,
    ann: Person,
    ben: Person,
    database_state: DatabaseState,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    assert [call(ann).result for _ in range(most)] == ["0000"] * most
    with assert_no_side_effects():
        answer = call(ann)
    assert (answer.status, answer.result) == (200, refusal)
    assert answer.refusal == "call was tried too often"
    assert 0 < int(answer.headers["Retry-After"]) <= 3600
    assert ann.friends() == []
    database_state.execute("DELETE FROM rate_limit_windows")  # an hour passes
    assert call(ann).result == "0000"


def test_retries_of_a_refill_have_a_limit_of_their_own(
    ann: Person, database_state: DatabaseState
) -> None:
    assert [ann.refill("10", requestId="r").result for _ in range(121)] == ["0000"] * 121
    with database_state.unchanged():
        answer = ann.refill("10", requestId="r")
    assert (answer.result, answer.refusal) == ("0013", "call was tried too often")
    # The retries did not count against the limit of refills.
    assert [ann.refill("10").result for _ in range(29)] == ["0000"] * 29
    assert ann.refill("10").refusal == "call was tried too often"
    assert database_state.coins(ann) == 300


def test_request_id_of_another_user_is_no_retry(ann: Person, ben: Person) -> None:
    assert ann.refill("10", requestId="r").result == "0000"
    assert [ben.refill("10", requestId=f"r{n}").result for n in range(30)] == ["0000"] * 30
    assert ben.refill("10", requestId="r").refusal == "call was tried too often"
