"""Pieces of work that threads do now, to find threads that never end."""

import time
from collections.abc import Callable


class RunningWork:
    """Measures how long the pieces of work take that run now.

    `begin` and `end` need no lock, because each changes the dictionary in one step.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at: dict[object, float] = {}

    def begin(self) -> object:
        """Register a piece of work; return a key for `end`."""
        key = object()
        self._started_at[key] = self._clock()
        return key

    def end(self, key: object) -> None:
        """Remove a piece of work."""
        del self._started_at[key]

    @property
    def longest_s(self) -> float:
        """The seconds since the start of the oldest piece of work; 0 if there is none."""
        started_at = min(list(self._started_at.values()), default=None)
        return 0.0 if started_at is None else self._clock() - started_at
