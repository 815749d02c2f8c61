"""A clock that a test sets."""


class FakeClock:
    """A clock whose time, in seconds, is `now`."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
