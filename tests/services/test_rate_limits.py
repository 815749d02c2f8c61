"""Rate limits are exact for concurrent requests, and count requests that fail."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from limits import parse
from sqlalchemy import text

from livebackend.core.errors import RateLimited
from livebackend.database.engine import Database
from livebackend.database.rate_limit_storage import PostgresRateLimitStorage
from livebackend.services.rate_limits import RateLimiter
from tests.support.api import ApiClient, App, run_concurrently
from tests.support.database_state import DatabaseState

RULES = {
    "per minute": "2 per minute",
    "per second": "2 per second",
    "two rules": "2 per minute; 3 per hour",
    "unlimited": "",
}


@pytest.fixture
def rate_limiter(database: Database) -> Iterator[RateLimiter]:
    # As in the application, the rate limiter has its own connection pool.
    rate_limiter = RateLimiter(database.with_own_pool(8), RULES)
    yield rate_limiter
    rate_limiter.close()


def test_requests_over_the_limit_are_rejected_per_key(rate_limiter: RateLimiter) -> None:
    assert [rate_limiter.try_consume("per minute", "ann") for _ in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    assert rate_limiter.try_consume("per minute", "ben")


@pytest.mark.processes
def test_limit_counts_the_last_second_as_a_moving_window(rate_limiter: RateLimiter) -> None:
    assert rate_limiter.try_consume("per second", "ann")
    time.sleep(0.6)
    assert rate_limiter.try_consume("per second", "ann")
    assert not rate_limiter.try_consume("per second", "ann")
    time.sleep(0.6)
    # Only the second request is still in the window of one second.
    assert [rate_limiter.try_consume("per second", "ann") for _ in range(2)] == [True, False]


def test_rejected_request_is_not_counted(
    rate_limiter: RateLimiter, database_state: DatabaseState
) -> None:
    for _ in range(5):
        rate_limiter.try_consume("per minute", "ann")
    (window,) = database_state.rows("rate_limit_windows")
    assert len(window["hits"]) == 2


def test_second_rule_of_a_rate_limit_is_enforced(
    rate_limiter: RateLimiter, database: Database
) -> None:
    assert [rate_limiter.try_consume("two rules", "ann") for _ in range(3)] == [True, True, False]
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM rate_limit_windows WHERE key LIKE '%/minute'"))
    assert [rate_limiter.try_consume("two rules", "ann") for _ in range(2)] == [True, False]


def test_rate_limited_error_has_the_seconds_until_a_retry_can_succeed(
    rate_limiter: RateLimiter,
) -> None:
    rate_limiter.consume("per minute", "ann")
    rate_limiter.consume("per minute", "ann")
    with pytest.raises(RateLimited) as caught:
        rate_limiter.consume("per minute", "ann")
    assert 55 <= (caught.value.retry_after_s or 0) <= 60


def test_empty_rate_limit_allows_all_requests_and_counts_none(
    rate_limiter: RateLimiter, database_state: DatabaseState
) -> None:
    assert all(rate_limiter.try_consume("unlimited", "ann") for _ in range(10))
    assert not rate_limiter.is_exceeded("unlimited", "ann")
    assert database_state.rows("rate_limit_windows") == []


def test_is_exceeded_counts_no_request(rate_limiter: RateLimiter) -> None:
    assert not any(rate_limiter.is_exceeded("per minute", "ann") for _ in range(5))
    rate_limiter.consume("per minute", "ann")
    rate_limiter.consume("per minute", "ann")
    assert rate_limiter.is_exceeded("per minute", "ann")


def test_twenty_concurrent_requests_are_counted_exactly(rate_limiter: RateLimiter) -> None:
    for key in ("ann", "ben", "cat"):
        allowed = run_concurrently(*[partial(rate_limiter.try_consume, "per minute", key)] * 20)
        assert sum(allowed) == 2


def test_storage_deletes_expired_windows_when_it_counts_requests(
    database: Database, database_state: DatabaseState
) -> None:
    storage = PostgresRateLimitStorage(database)
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO rate_limit_windows"
                " SELECT 'old' || n, ARRAY[now()], now() - interval '1 s'"
                " FROM generate_series(1, 150) AS n"
            )
        )
    for _ in range(40):
        storage.acquire_entry("new", 100, 60)
    assert [row["key"] for row in database_state.rows("rate_limit_windows")] == ["new"]


def test_storage_implements_the_methods_of_the_limits_library(database: Database) -> None:
    storage = PostgresRateLimitStorage(database)
    rule = parse("2 per minute")
    assert storage.check()
    assert storage.get_moving_window(rule.key_for("x"), 2, 60)[1] == 0
    assert not storage.acquire_entry("x", 2, 60, amount=3)
    assert storage.acquire_entry("x", 2, 60, amount=2)
    assert storage.get_expiry("x") == pytest.approx(time.time() + 60, abs=5)
    storage.reset()
    assert storage.get_moving_window("x", 2, 60)[1] == 0


@pytest.fixture
def limited_api(new_app: Callable[..., App]) -> ApiClient:
    return ApiClient(new_app(limits__search="2 per hour", limits__upload="1 per hour"))


def test_request_over_the_limit_is_rejected_with_retry_after(
    limited_api: ApiClient, database_state: DatabaseState
) -> None:
    ann, ben = limited_api.register_user("13800000001"), limited_api.register_user("13800000002")
    for _ in range(2):
        assert ann.post("/friend", search="1", userId=ben.phone).result == "0000"
    with database_state.assert_unchanged():
        response = ann.post("/friend", search="1", userId=ben.phone)
    assert (response.status, response.result) == (200, "0006")
    assert response.error == "request; reason=rate_limited"
    assert 3500 < int(response.headers["Retry-After"]) <= 3600
    assert ben.post("/friend", search="1", userId=ann.phone).result == "0000"


def test_request_that_fails_is_counted(limited_api: ApiClient) -> None:
    ann = limited_api.register_user("13800000001")
    result_codes = [ann.post("/friend", search="1", userId="13800000009").result for _ in range(3)]
    assert result_codes == ["0007", "0007", "0006"]


def test_request_without_a_login_token_is_counted_by_client_address(limited_api: ApiClient) -> None:
    assert limited_api.post("/upload", img="x").error == "img; reason=invalid_value"
    assert limited_api.post("/upload", img="x").error == "request; reason=rate_limited"
