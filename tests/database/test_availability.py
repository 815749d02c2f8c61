"""Detection of a PostgreSQL server that does not respond."""

import pytest

from livebackend.database.availability import Availability, DatabaseNotResponding


class FakeClock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


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
    assert availability.connections_valid_from == 4


def test_one_slow_call_does_not_make_a_responding_database_unavailable(
    availability: Availability, clock: FakeClock
) -> None:
    clock.now = 3
    availability.record_response()  # of another call
    clock.now = 4
    availability.record_silence(since=0)
    assert availability.is_available


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
