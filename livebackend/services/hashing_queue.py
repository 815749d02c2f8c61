"""The queue of the requests that hash a password, in one process."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from livebackend.core.errors import ServiceUnavailable


class _Order(NamedTuple):
    """The order of a request in the queue; the smallest order is next."""

    # The number of requests of the same client that were in the queue before this request. So the
    # requests of one client wait for each other, and other clients do not wait for them.
    earlier_of_client: int
    is_new_client: bool
    number: int


@dataclass(eq=False)
class Place:
    """The place of a request in the queue."""

    client: str
    order: _Order
    permit: int | None = None
    changed: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout_s: float) -> int:
        """Wait for a permit and return its number.

        Raises ServiceUnavailable after the timeout, if the queue is full of requests that precede
        this request, and if the process stops.
        """
        self.changed.wait(timeout_s)
        if self.permit is None:
            raise _unavailable()
        return self.permit


class HashingQueue:
    """Gives `permits` permits to the requests of a process, in the order of `_Order`.

    At most `max_callers` requests have a permit or wait for one. If the queue is full, the last
    request in the order is removed from it.
    """

    def __init__(self, *, permits: int, max_callers: int) -> None:
        self._max_callers = max_callers
        self._lock = threading.Lock()
        self._free_permits = list(range(min(permits, max_callers)))
        # The requests that wait, and the number of all requests in the queue by client.
        self._waiting: list[Place] = []
        self._callers: Counter[str] = Counter()
        self._numbers = count()
        self._is_stopped = False

    @contextmanager
    def enter(self, client: str, *, is_known_client: bool) -> Iterator[Place]:
        """Enter the queue for the duration of the `with` block.

        Raises ServiceUnavailable if the queue is full, and if the process stops.
        """
        place = self._add(client, is_known_client=is_known_client)
        try:
            yield place
        finally:
            self._remove(place)

    def stop(self) -> None:
        """Make waiting and later requests fail with ServiceUnavailable."""
        with self._lock:
            self._is_stopped = True
            for place in list(self._waiting):
                self._reject(place)

    def _add(self, client: str, *, is_known_client: bool) -> Place:
        with self._lock:
            order = _Order(self._callers[client], not is_known_client, next(self._numbers))
            if self._is_stopped:
                raise _unavailable()
            if self._callers.total() >= self._max_callers:
                last_place = max(self._waiting, key=_order_of, default=None)
                if last_place is None or last_place.order < order:
                    raise _unavailable()
                self._reject(last_place)
            place = Place(client, order)
            self._callers[client] += 1
            self._waiting.append(place)
            self._assign_permits()
            return place

    def _remove(self, place: Place) -> None:
        with self._lock:
            if place.permit is not None:
                self._count_down(place.client)
                self._free_permits.append(place.permit)
                self._assign_permits()
            elif place in self._waiting:
                self._reject(place)

    def _assign_permits(self) -> None:
        while self._free_permits and self._waiting:
            place = min(self._waiting, key=_order_of)
            self._waiting.remove(place)
            place.permit = self._free_permits.pop()
            place.changed.set()

    def _reject(self, place: Place) -> None:
        self._waiting.remove(place)
        self._count_down(place.client)
        place.changed.set()

    def _count_down(self, client: str) -> None:
        self._callers[client] -= 1
        if not self._callers[client]:
            del self._callers[client]


def _order_of(place: Place) -> _Order:
    return place.order


def _unavailable() -> ServiceUnavailable:
    return ServiceUnavailable(
        "password hashing: the concurrency limit is reached, or the server is stopping"
    )
