"""Limits: exact under any number of calls, and counted whatever becomes of the call."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from limits import parse
from sqlalchemy import text

from livebackend.core.errors import RateLimited
from livebackend.database.engine import Database
from livebackend.database.rate_limit_storage import PostgresWindows
from livebackend.services.rate_limits import Limits
from tests.support.api import Api, App, at_once
from tests.support.database_state import DatabaseState

RULES = {
    "tight": "2 per minute",
    "brief": "2 per second",
    "growing": "2 per minute; 3 per hour",
    "none": "",
}


@pytest.fixture
def limits(database_url: str, database: Database) -> Iterator[Limits]:
    # `database` keeps the tables; the limits have connections of their own.
    limits = Limits(database.beside(8), RULES)
    yield limits
    limits.close()


def test_so_many_and_no_more(limits: Limits) -> None:
    assert [limits.allows("tight", "ann") for _ in range(4)] == [True, True, False, False]
    assert limits.allows("tight", "ben")


@pytest.mark.processes
def test_the_window_moves(limits: Limits) -> None:
    assert limits.allows("brief", "ann")
    time.sleep(0.6)
    assert limits.allows("brief", "ann")
    assert not limits.allows("brief", "ann")
    time.sleep(0.6)
    # The first is over a second ago, the second is not.
    assert [limits.allows("brief", "ann") for _ in range(2)] == [True, False]


def test_what_is_refused_is_not_counted(limits: Limits, database_state: DatabaseState) -> None:
    for _ in range(5):
        limits.allows("tight", "ann")
    (window,) = database_state.rows("rate_limit_windows")
    assert len(window["hits"]) == 2


def test_the_second_of_two_limits_holds_too(limits: Limits, database: Database) -> None:
    assert [limits.allows("growing", "ann") for _ in range(3)] == [True, True, False]
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM rate_limit_windows WHERE key LIKE '%/minute'"))
    assert [limits.allows("growing", "ann") for _ in range(2)] == [True, False]


def test_a_refusal_says_when_to_try_again(limits: Limits) -> None:
    limits.take("tight", "ann")
    limits.take("tight", "ann")
    with pytest.raises(RateLimited) as caught:
        limits.take("tight", "ann")
    assert 55 <= (caught.value.retry_after_s or 0) <= 60


def test_no_limit_is_none(limits: Limits, database_state: DatabaseState) -> None:
    assert all(limits.allows("none", "ann") for _ in range(10))
    assert not limits.is_full("none", "ann")
    assert database_state.rows("rate_limit_windows") == []


def test_looking_counts_nothing(limits: Limits) -> None:
    assert not any(limits.is_full("tight", "ann") for _ in range(5))
    limits.take("tight", "ann")
    limits.take("tight", "ann")
    assert limits.is_full("tight", "ann")


def test_twenty_at_once_are_counted_exactly(limits: Limits) -> None:
    for who in ("ann", "ben", "cat"):
        allowed = at_once(*[partial(limits.allows, "tight", who)] * 20)
        assert sum(allowed) == 2


def test_what_has_expired_is_swept(database: Database, database_state: DatabaseState) -> None:
    windows = PostgresWindows(database)
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO rate_limit_windows"
                " SELECT 'old' || n, ARRAY[now()], now() - interval '1 s'"
                " FROM generate_series(1, 150) AS n"
            )
        )
    for _ in range(40):
        windows.acquire_entry("new", 100, 60)
    assert [row["key"] for row in database_state.rows("rate_limit_windows")] == ["new"]


def test_the_storage_is_the_librarys(database: Database) -> None:
    windows = PostgresWindows(database)
    rule = parse("2 per minute")
    assert windows.check()
    assert windows.get_moving_window(rule.key_for("x"), 2, 60)[1] == 0
    assert not windows.acquire_entry("x", 2, 60, amount=3)
    assert windows.acquire_entry("x", 2, 60, amount=2)
    assert windows.get_expiry("x") == pytest.approx(time.time() + 60, abs=5)
    windows.reset()
    assert windows.get_moving_window("x", 2, 60)[1] == 0


@pytest.fixture
def limited(new_app: Callable[..., App]) -> Api:
    return Api(new_app(limits__search="2 per hour", limits__upload="1 per hour"))


def test_a_call_over_the_limit_is_refused(limited: Api, database_state: DatabaseState) -> None:
    ann, ben = limited.person("13800000001"), limited.person("13800000002")
    for _ in range(2):
        assert ann.post("/friend", search="1", userId=ben.phone).result == "0000"
    with database_state.unchanged():
        answer = ann.post("/friend", search="1", userId=ben.phone)
    assert (answer.status, answer.result) == (200, "0006")
    assert answer.refusal == "call was tried too often"
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert ben.post("/friend", search="1", userId=ann.phone).result == "0000"


def test_a_call_that_fails_is_counted_all_the_same(
    limited: Api, database_state: DatabaseState
) -> None:
    ann = limited.person("13800000001")
    results = [ann.post("/friend", search="1", userId="13800000009").result for _ in range(3)]
    assert results == ["0007", "0007", "0006"]


def test_whoever_is_not_logged_in_is_counted_by_address(limited: Api) -> None:
    assert limited.post("/upload", img="x").refusal == "img is not one of the values"
    assert limited.post("/upload", img="x").refusal == "call was tried too often"
