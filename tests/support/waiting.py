"""Wait for a condition with a time limit."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(condition: Callable[[], Result | None], limit_s: float, description: str) -> Result:
    """Return the first true result of `condition`, or fail after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {limit_s} s for {description}"
        time.sleep(0.01)
    return result
