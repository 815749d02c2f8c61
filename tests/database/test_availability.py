"""Detection of a PostgreSQL server that does not respond."""

import threading

import pytest

from livebackend.database.availability import Availability, DatabaseNotResponding
from tests.support.clock import FakeClock
from tests.support.waiting import wait_until


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def availability(clock: FakeClock) -> Availability:
    return Availability(clock=clock)


def test_call_without_a_response_makes_the_database_unavailable(
    availability: Availability, clock: FakeClock
) -> None:
    clock.now = 4
    availability.record_silence(since=0)
    assert not availability.is_available
    assert availability.connections_valid_from == 0


def test_one_slow_call_does_not_make_a_responding_database_unavailable(
    availability: Availability, clock: FakeClock
) -> None:
    clock.now = 3
    availability.record_response()  # of another call
    clock.now = 4
    availability.record_silence(since=0)
    assert availability.is_available


def test_connections_that_were_opened_before_a_silent_call_are_replaced(
    availability: Availability, clock: FakeClock
) -> None:
    clock.now = 3
    availability.record_response()  # on a new connection
    clock.now = 4
    availability.record_silence(since=2)
    assert availability.is_available
    assert availability.connections_valid_from == 2


def test_only_one_call_at_a_time_tests_an_unavailable_database(availability: Availability) -> None:
    availability.record_silence(since=0)

    def call_meanwhile() -> None:
        with pytest.raises(DatabaseNotResponding):
            availability.call(pytest.fail)

    for _ in range(2):
        availability.call(call_meanwhile)


def test_response_makes_the_database_available_for_all_calls(availability: Availability) -> None:
    availability.record_silence(since=0)

    def connect() -> str:
        availability.record_response()
        return availability.call(lambda: availability.call(lambda: "done"))

    assert availability.call(connect) == "done"


def test_call_during_a_short_test_waits_for_its_result(availability: Availability) -> None:
    availability.record_silence(since=0)
    results: list[str] = []

    def test_connection() -> None:
        waiting_call = threading.Thread(
            target=lambda: results.append(availability.call(lambda: "done"))
        )
        waiting_call.start()
        availability.record_response()
        waiting_call.join(10)

    availability.call(test_connection)
    wait_until(lambda: results == ["done"], 10, "the waiting call")
