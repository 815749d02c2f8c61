"""The limits of production.ini: so many calls, and the next is refused."""

from collections.abc import Callable

import pytest

from tests.api import Answer, Person, World
from tests.battery.conftest import Harmless
from tests.battery.test_uploads import PNG, upload


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
    world: World,
    harmless: Harmless,
) -> None:
    assert [call(ann).result for _ in range(most)] == ["0000"] * most
    with harmless():
        answer = call(ann)
    assert (answer.status, answer.result) == (200, refusal)
    assert answer.refusal == "call was tried too often"
    assert 0 < int(answer.headers["Retry-After"]) <= 3600
    assert ann.friends() == []
    world.execute("DELETE FROM limit_windows")  # an hour passes
    assert call(ann).result == "0000"
