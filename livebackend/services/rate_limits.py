"""Rate limits, shared by all workers."""

from collections.abc import Mapping
from math import ceil

from limits import RateLimitItem, parse_many
from limits.strategies import MovingWindowRateLimiter

from livebackend.core.errors import RateLimited
from livebackend.database.engine import Database
from livebackend.database.rate_limit_storage import PostgresRateLimitStorage


class RateLimiter:
    """Rate limits by name, each with a rule such as `"10 per minute; 100 per hour"`.

    An empty rule means no limit. `database` must have its own pool, because `close` closes it.
    """

    def __init__(self, database: Database, rules: Mapping[str, str]) -> None:
        self._database = database
        self._storage = PostgresRateLimitStorage(database)
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._rules = {name: parse_many(rule) if rule else [] for name, rule in rules.items()}

    def consume(self, name: str, key: str) -> None:
        """Count a request of a client or user.

        Raises RateLimited, without counting the request, if the limit is reached.
        """
        reached_rule = self._hit(name, key)
        if reached_rule:
            reset_at = self._limiter.get_window_stats(reached_rule, name, key).reset_time
            wait_s = max(1, ceil(reset_at - self._storage.now()))
            raise RateLimited(retry_after_s=wait_s)

    def try_consume(self, name: str, key: str) -> bool:
        """Count a request; return False, without counting it, if the limit is reached."""
        return self._hit(name, key) is None

    def is_exceeded(self, name: str, key: str) -> bool:
        """Return whether the limit is reached, without counting a request."""
        return not all(self._limiter.test(rule, name, key) for rule in self._rules[name])

    def delete_expired(self) -> None:
        """Delete the expired rate limit windows from the database."""
        self._storage.delete_expired()

    def close(self) -> None:
        self._database.close()

    def _hit(self, name: str, key: str) -> RateLimitItem | None:
        for rule in self._rules[name]:
            if not self._limiter.hit(rule, name, key):
                return rule
        return None
