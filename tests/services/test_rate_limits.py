"""Rate limits: exact for concurrent requests, and not counting refused ones."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from sqlalchemy import text
from webtest import Upload

from livebackend.core.errors import RateLimited
from livebackend.database.engine import Database
from livebackend.database.rate_limit_counters import RateLimitCounters, WindowRule
from livebackend.services.rate_limits import RateLimit, RateLimiter
from tests.support.api import ApiClient, App, run_concurrently
from tests.support.database_state import DatabaseState
from tests.support.statements import record_statements

RULES = {
    "per minute": "2 per minute",
    "per second": "2 per second",
    "two rules": "2 per minute; 3 per hour",
    "five per day": "5 per day",
    "many": "1000 per hour",
    "unlimited": "",
    "closed": "0 per day; 5 per hour",
    "same window": "5 per hour; 2 per 60 minutes",
}
ANN, BEN = RateLimit("per minute", "ann"), RateLimit("per minute", "ben")


@pytest.fixture
def limiter_database(database: Database) -> Iterator[Database]:
    # As in the application, the rate limiter has its own connection pool.
    limiter_database = database.with_own_pool(8, durable=False)
    yield limiter_database
    limiter_database.close()


@pytest.fixture
def rate_limiter(limiter_database: Database) -> RateLimiter:
    return RateLimiter(RateLimitCounters(limiter_database), RULES, key=b"key")


def counts(database_state: DatabaseState) -> dict[str, int]:
    """Return the number of counted requests by the name of the limit and its window."""
    return {
        row["key"].rpartition("/")[0]: sum(row["counts"])
        for row in database_state.rows("rate_limit_counters")
    }


def test_requests_over_the_limit_are_rejected_per_subject(rate_limiter: RateLimiter) -> None:
    assert [rate_limiter.try_consume(ANN) for _ in range(4)] == [True, True, False, False]
    assert rate_limiter.try_consume(BEN)


def test_limit_of_zero_refuses_every_request(
    rate_limiter: RateLimiter, database_state: DatabaseState
) -> None:
    limit = RateLimit("closed", "ann")
    with pytest.raises(RateLimited) as error:
        rate_limiter.consume(ANN, limit)
    assert error.value.retry_after_s == 86_400
    assert rate_limiter.is_exceeded(limit)
    assert counts(database_state) == {}


def test_of_two_rules_with_the_same_window_the_stricter_one_applies(
    rate_limiter: RateLimiter,
) -> None:
    limit = RateLimit("same window", "ann")
    assert [rate_limiter.try_consume(limit) for _ in range(3)] == [True, True, False]


@pytest.mark.processes
def test_limit_counts_the_last_second_as_a_moving_window(rate_limiter: RateLimiter) -> None:
    limit = RateLimit("per second", "ann")
    assert rate_limiter.try_consume(limit)
    time.sleep(0.6)
    assert rate_limiter.try_consume(limit)
    assert not rate_limiter.try_consume(limit)
    time.sleep(0.6)
    # Only the second request is still in the window of one second.
    assert [rate_limiter.try_consume(limit) for _ in range(2)] == [True, False]


def test_refused_request_counts_for_none_of_its_limits(
    rate_limiter: RateLimiter, database_state: DatabaseState
) -> None:
    other_limit = RateLimit("five per day", "ann")
    for _ in range(2):
        rate_limiter.consume(ANN)
    for limits in ((other_limit, ANN), (ANN, other_limit)):
        assert not rate_limiter.try_consume(*limits)
    assert counts(database_state) == {"per minute/60": 2, "five per day/86400": 0}


def test_all_rules_of_a_request_are_checked_in_one_statement(
    rate_limiter: RateLimiter,
) -> None:
    limits = (ANN, RateLimit("two rules", "ann"), RateLimit("five per day", "ann"))
    rate_limiter.consume(*limits)
    with record_statements() as statements:
        rate_limiter.consume(*limits)
    assert len(statements) == 1


def test_second_rule_of_a_rate_limit_is_enforced(
    rate_limiter: RateLimiter, database_state: DatabaseState
) -> None:
    limit = RateLimit("two rules", "ann")
    assert [rate_limiter.try_consume(limit) for _ in range(3)] == [True, True, False]
    database_state.execute("DELETE FROM rate_limit_counters WHERE key LIKE '%/60/%'")
    assert [rate_limiter.try_consume(limit) for _ in range(2)] == [True, False]


def test_rate_limited_error_has_the_longest_wait_of_all_limits(rate_limiter: RateLimiter) -> None:
    limits = (ANN, RateLimit("five per day", "ann"))
    for _ in range(2):
        rate_limiter.consume(*limits)
    with pytest.raises(RateLimited) as caught:
        rate_limiter.consume(*limits)
    assert 55 <= (caught.value.retry_after_s or 0) <= 60
    for _ in range(3):
        rate_limiter.consume(RateLimit("five per day", "ann"))
    with pytest.raises(RateLimited) as caught:
        rate_limiter.consume(*limits)
    assert 86_390 <= (caught.value.retry_after_s or 0) <= 86_400


def test_retry_after_is_the_time_at_which_enough_requests_leave_the_window(
    rate_limiter: RateLimiter, database_state: DatabaseState
) -> None:
    limit = RateLimit("five per day", "ann")
    rate_limiter.consume(limit)
    database_state.execute(
        "UPDATE rate_limit_counters SET counts = ARRAY[1, 2, 2], times ="
        " ARRAY[now() - interval '20 hours', now() - interval '10 hours', now()]"
    )
    with pytest.raises(RateLimited) as caught:
        rate_limiter.consume(limit)
    assert caught.value.retry_after_s == pytest.approx(4 * 3600, abs=5)


def test_limit_without_rules_allows_all_requests_and_sends_no_statement(
    rate_limiter: RateLimiter,
) -> None:
    limit = RateLimit("unlimited", "ann")
    with record_statements() as statements:
        assert all(rate_limiter.try_consume(limit) for _ in range(10))
        assert not rate_limiter.is_exceeded(limit)
    assert statements == []


def test_check_counts_no_request(rate_limiter: RateLimiter) -> None:
    only_checked = ANN._replace(counted=False)
    for _ in range(5):
        assert not rate_limiter.is_exceeded(ANN)
        rate_limiter.consume(only_checked)
    rate_limiter.consume(ANN)
    rate_limiter.consume(ANN)
    assert rate_limiter.is_exceeded(BEN, ANN)
    assert not rate_limiter.try_consume(only_checked)


def test_undone_request_is_subtracted_and_leaves_no_entry(
    rate_limiter: RateLimiter, database_state: DatabaseState
) -> None:
    limits = (ANN, RateLimit("many", "ann"))
    for _ in range(2):
        rate_limiter.consume(*limits)
    rate_limiter.undo(*limits)
    assert counts(database_state) == {"per minute/60": 1, "many/3600": 1}
    for _ in range(3):  # a counter never becomes negative
        rate_limiter.undo(*limits, RateLimit("unlimited", "ann"), BEN)
    assert [row["times"] for row in database_state.rows("rate_limit_counters")] == [[], []]
    assert [rate_limiter.try_consume(ANN) for _ in range(3)] == [True, True, False]


def test_twenty_concurrent_requests_are_counted_exactly(rate_limiter: RateLimiter) -> None:
    for subject in ("ann", "ben", "cat"):
        limit = RateLimit("per minute", subject)
        allowed = run_concurrently(*[partial(rate_limiter.try_consume, limit)] * 20)
        assert sum(allowed) == 2


def test_concurrent_requests_with_limits_in_different_order_do_not_deadlock(
    rate_limiter: RateLimiter,
) -> None:
    limits = [RateLimit("many", subject) for subject in "abcdef"]
    calls = [
        partial(rate_limiter.consume, *(limits if n % 2 else reversed(limits))) for n in range(20)
    ]
    run_concurrently(*calls)


def test_rule_of_many_requests_is_exact_and_its_row_stays_small(
    rate_limiter: RateLimiter, database_state: DatabaseState
) -> None:
    limit = RateLimit("many", "ann")
    assert sum(rate_limiter.try_consume(limit) for _ in range(1002)) == 1000
    (row,) = database_state.rows("rate_limit_counters")
    assert sum(row["counts"]) == 1000
    assert len(row["counts"]) <= 3  # the test takes seconds, and an interval has 36 s


def test_subject_is_stored_only_as_a_digest(
    rate_limiter: RateLimiter, database_state: DatabaseState
) -> None:
    rate_limiter.consume(RateLimit("per minute", "13800000001"))
    (row,) = database_state.rows("rate_limit_counters")
    assert "13800000001" not in row["key"]


def test_expired_counters_of_the_previous_release_are_deleted(
    rate_limiter: RateLimiter, database_state: DatabaseState
) -> None:
    database_state.execute(
        "INSERT INTO rate_limit_windows (key, hits, expires_at) VALUES"
        " ('sms_phone/86400/13800000001', ARRAY[now()], now() - interval '1 second'),"
        " ('sms_phone/86400/13800000002', ARRAY[now()], now() + interval '1 hour')"
    )
    assert rate_limiter.delete_expired() == 1
    (window,) = database_state.rows("rate_limit_windows")
    assert window["key"].endswith("2")


def test_expired_counters_are_deleted(
    rate_limiter: RateLimiter, database: Database, database_state: DatabaseState
) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO rate_limit_counters"
                " SELECT 'old' || n, '{}', '{}', now() - interval '1 s'"
                " FROM generate_series(1, 1500) AS n"
            )
        )
    rate_limiter.consume(ANN)
    assert rate_limiter.delete_expired() == 1000
    # Requests delete expired counters, too.
    for n in range(300):
        rate_limiter.try_consume(RateLimit("five per day", f"{n % 100}"))
    assert not [row for row in database_state.rows("rate_limit_counters") if "old" in row["key"]]


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
    for result in ("0000", "0006"):
        assert limited_api.post("/upload", img=Upload("a.png", b"x")).result == result


def test_request_with_an_invalid_parameter_is_not_counted(
    limited_api: ApiClient, database_state: DatabaseState
) -> None:
    assert limited_api.post("/upload", img="x").error == "img; reason=not_a_file"
    assert counts(database_state) == {}


def test_request_is_counted_by_key_after_the_table_has_grown(database: Database) -> None:
    count_request = text(
        "SELECT count_request(ARRAY['a', 'b'], ARRAY[9, 900], ARRAY[60, 60], ARRAY[true, false])"
    )
    insert_counters = text(
        "INSERT INTO rate_limit_counters"
        " SELECT n::text, ARRAY[now()], ARRAY[1], now() FROM generate_series(1, 5000) n"
    )
    rows_read = text(
        "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'rate_limit_counters'"
    )
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("VACUUM ANALYZE rate_limit_counters"))
    with database.engine.begin() as connection:
        # PostgreSQL now keeps plans for a table that it knows to be empty.
        for _ in range(8):
            connection.execute(count_request)
        connection.execute(insert_counters)
        rows_read_before: int = connection.execute(rows_read).scalar_one()
        connection.execute(count_request)
        assert connection.execute(rows_read).scalar_one() == rows_read_before
        connection.rollback()


def test_counter_stays_valid_when_the_maximum_is_lowered(
    limiter_database: Database, database_state: DatabaseState
) -> None:
    counters = RateLimitCounters(limiter_database)
    # The times of a large rule are the ends of intervals, which are in the future.
    assert counters.count([WindowRule("key", 1000, 3600, True)]) is None
    assert counters.count([WindowRule("key", 3, 3600, True)]) is None
    (row,) = database_state.rows("rate_limit_counters")
    assert row["times"] == sorted(row["times"])
    assert counters.count([WindowRule("key", 3, 3600, True)]) is None
    assert counters.count([WindowRule("key", 3, 3600, True)]) is not None
