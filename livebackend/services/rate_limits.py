"""Rate limits, counted by all server processes together."""

from collections.abc import Mapping
from math import ceil

from limits import RateLimitItem, parse_many
from limits.strategies import MovingWindowRateLimiter

from livebackend.core.errors import RateLimited
from livebackend.database.engine import Database
from livebackend.database.rate_limit_storage import PostgresWindows


class Limits:
    """The limits of the settings, by name: `"10 per minute; 100 per hour"`, or none if empty.

    `database` is theirs alone.
    """

    def __init__(self, database: Database, rules: Mapping[str, str]) -> None:
        self._database = database
        self._windows = PostgresWindows(database)
        self._limiter = MovingWindowRateLimiter(self._windows)
        self._rules = {name: parse_many(rule) if rule else [] for name, rule in rules.items()}

    def take(self, name: str, who: str) -> None:
        """Count one more for a client or user.

        Raises RateLimited if the limit is reached; such a request is not counted.
        """
        full = self._hit(name, who)
        if full:
            again_at = self._limiter.get_window_stats(full, name, who).reset_time
            wait_s = max(1, ceil(again_at - self._windows.now()))
            raise RateLimited(retry_after_s=wait_s)

    def allows(self, name: str, who: str) -> bool:
        """Counts one more for somebody; False, uncounted, for who is over a limit."""
        return self._hit(name, who) is None

    def is_full(self, name: str, who: str) -> bool:
        """Whether one more would be too many."""
        return not all(self._limiter.test(rule, name, who) for rule in self._rules[name])

    def sweep(self) -> None:
        """Forgets whom nothing is counted of any more."""
        self._windows.sweep()

    def close(self) -> None:
        self._database.close()

    def _hit(self, name: str, who: str) -> RateLimitItem | None:
        for rule in self._rules[name]:
            if not self._limiter.hit(rule, name, who):
                return rule
        return None
