"""The order of the requests that wait to hash a password."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from livebackend.core.errors import ServiceUnavailable
from livebackend.services.hashing_queue import HashingQueue, Place


@pytest.fixture
def queue() -> HashingQueue:
    return HashingQueue(permits=1, max_callers=6)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def served(places: dict[str, Place], running: ExitStack) -> str:
    """Release the used permit; return the name of the place that gets it next."""
    running.close()
    (name,) = [name for name, place in places.items() if place.permit is not None]
    return name


def test_requests_of_one_client_wait_for_each_other_and_others_do_not_wait_for_them(
    queue: HashingQueue, stack: ExitStack
) -> None:
    running = ExitStack()
    running.enter_context(queue.enter("attacker", is_known_client=True))
    places = {}
    for name in ("attacker 2", "attacker 3", "ann", "ben"):
        places[name] = stack.enter_context(queue.enter(name.split()[0], is_known_client=True))
    assert served(places, running) == "ann"


def test_known_clients_precede_new_clients(queue: HashingQueue, stack: ExitStack) -> None:
    running = ExitStack()
    running.enter_context(queue.enter("x", is_known_client=True))
    places = {
        "new 1": stack.enter_context(queue.enter("new 1", is_known_client=False)),
        "new 2": stack.enter_context(queue.enter("new 2", is_known_client=False)),
        "known": stack.enter_context(queue.enter("known", is_known_client=True)),
    }
    assert served(places, running) == "known"


def test_requests_of_equal_rank_are_served_in_the_order_of_arrival(
    queue: HashingQueue, stack: ExitStack
) -> None:
    running = ExitStack()
    running.enter_context(queue.enter("x", is_known_client=True))
    places = {
        name: stack.enter_context(queue.enter(name, is_known_client=True)) for name in ("a", "b")
    }
    assert served(places, running) == "a"


def test_full_queue_rejects_the_last_request_in_the_order(
    queue: HashingQueue, stack: ExitStack
) -> None:
    places = [stack.enter_context(queue.enter("attacker", is_known_client=True)) for _ in range(6)]
    with pytest.raises(ServiceUnavailable), queue.enter("attacker", is_known_client=True):
        pytest.fail("the seventh request entered")
    ann = stack.enter_context(queue.enter("ann", is_known_client=True))
    with pytest.raises(ServiceUnavailable):
        places[5].wait(0)
    assert ann.permit is None
    assert places[4].permit is None
    # Ann's request took the place of the rejected request: the queue is full again.
    with pytest.raises(ServiceUnavailable), queue.enter("attacker", is_known_client=True):
        pytest.fail("the seventh request entered")


def test_client_that_has_left_the_queue_has_the_rank_of_its_first_request(
    queue: HashingQueue, stack: ExitStack
) -> None:
    for _ in range(3):
        with queue.enter("ann", is_known_client=True) as place:
            assert place.order.earlier_of_client == 0
            assert place.wait(0) == 0


def test_request_that_times_out_leaves_the_queue(queue: HashingQueue) -> None:
    with queue.enter("ann", is_known_client=True) as running:
        for _ in range(10):
            with pytest.raises(ServiceUnavailable), queue.enter("ben", is_known_client=True) as ben:
                ben.wait(0)
        assert running.permit == 0
    with queue.enter("cat", is_known_client=True) as place:
        assert place.wait(0) == 0


def test_permits_are_never_more_than_the_callers() -> None:
    queue = HashingQueue(permits=8, max_callers=2)
    with (
        queue.enter("ann", is_known_client=True) as ann,
        queue.enter("ben", is_known_client=True) as ben,
    ):
        assert {ann.wait(0), ben.wait(0)} == {0, 1}
        with pytest.raises(ServiceUnavailable), queue.enter("cat", is_known_client=True):
            pytest.fail("the third request entered")
