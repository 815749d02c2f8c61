"""Rate limits, shared by all workers."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from math import ceil
from typing import Any, NamedTuple

from limits import RateLimitItem, parse_many

from livebackend.core.errors import RateLimited
from livebackend.core.hmac_sha256 import HmacSha256
from livebackend.database.rate_limit_counters import (
    CountingStatement,
    RateLimitCounters,
    WindowRule,
)

_CALLS_PER_DELETION = 256


class RateLimit(NamedTuple):
    """A rate limit for an account, a client address, a phone, or all clients."""

    # The name of a setting without the prefix `limits.`.
    name: str
    subject: str
    # Whether the request counts against the limit; if not, the limit is only checked.
    counted: bool = True


def account_subject(account_id: int) -> str:
    """Return the subject of the rate limits of an account."""
    return f"account {account_id}"


class RateLimiter:
    """Rate limits by name, each with rules such as `"10 per minute; 100 per hour"`.

    A name without rules has no limit. A subject can be a phone number or an address, so the
    database stores only its digest with the secret `key`.
    """

    def __init__(
        self, counters: RateLimitCounters, rules: Mapping[str, str], *, key: bytes
    ) -> None:
        self._counters = counters
        self._hmac = HmacSha256(key)
        self._rules: Mapping[str, list[RateLimitItem]] = {
            name: _strictest_by_window(rule) for name, rule in rules.items()
        }
        self._calls = count(1)

    def consume(self, *limits: RateLimit) -> None:
        """Count a request against several limits, in one statement.

        Raises RateLimited if one of the limits is reached; then the request counts against none.
        """
        retry_after_s = self._count(*limits)
        if retry_after_s is not None:
            raise _rate_limited(retry_after_s)

    def select_and_consume(
        self, statement: CountingStatement, values: Mapping[str, Any], *limits: RateLimit
    ) -> tuple[Any, RateLimited | None]:
        """Select a row, and count a request if there is one; in one statement.

        Returns the row or None, and the error if one of the limits is reached. At least one of the
        limits must have a rule.
        """
        rules = list(self._window_rules(*limits))
        retry_after_s = _closed_for_s(rules)
        if retry_after_s is not None:
            row = self._counters.select(statement, values)
        else:
            self._delete_expired_sometimes()
            row, retry_after_s = self._counters.select_and_count(statement, values, rules)
        return row, None if retry_after_s is None else _rate_limited(retry_after_s)

    def has_rules(self, *limits: RateLimit) -> bool:
        """Return whether one of the limits can refuse a request."""
        return any(self._rules[limit.name] for limit in limits)

    def try_consume(self, *limits: RateLimit) -> bool:
        """Count a request; return False, without counting it, if a limit is reached."""
        return self._count(*limits) is None

    def undo(self, *limits: RateLimit) -> None:
        """Subtract a request that `consume` has counted."""
        keys = [rule.key for rule in self._window_rules(*limits) if rule.counted]
        if keys:
            self._counters.subtract(keys)

    def is_exceeded(self, *limits: RateLimit) -> bool:
        """Return whether one of the limits is reached, without counting a request."""
        rules = list(self._window_rules(*limits))
        if not all(rule.maximum for rule in rules):
            return True
        return bool(rules) and self._counters.is_any_exhausted(rules)

    def delete_expired(self) -> int:
        """Delete up to 1000 expired counters; return their number."""
        return self._counters.delete_expired()

    def close(self) -> None:
        self._counters.close()

    def _count(self, *limits: RateLimit) -> float | None:
        rules = list(self._window_rules(*limits))
        if not rules:
            return None
        closed_for_s = _closed_for_s(rules)
        if closed_for_s is not None:
            return closed_for_s
        self._delete_expired_sometimes()
        return self._counters.count(rules)

    def _delete_expired_sometimes(self) -> None:
        """Delete expired counters in some calls, so that the table stays small.

        Housekeeping deletes them too, but less often.
        """
        if next(self._calls) % _CALLS_PER_DELETION == 0:
            self.delete_expired()

    def _window_rules(self, *limits: RateLimit) -> Iterator[WindowRule]:
        for limit in limits:
            digest = self._hmac.digest(limit.subject.encode()).hex()[:32]
            for rule in self._rules[limit.name]:
                window_s = rule.get_expiry()
                key = f"{limit.name}/{window_s}/{digest}"
                yield WindowRule(key, rule.amount, window_s, limit.counted)


def _closed_for_s(rules: Sequence[WindowRule]) -> float | None:
    """Return the longest window of the rules such as "0 per day", or None without such a rule.

    Such a rule permits no request, and has no counter that shows it.
    """
    return max((rule.window_s for rule in rules if not rule.maximum), default=None)


def _rate_limited(retry_after_s: float) -> RateLimited:
    return RateLimited(retry_after_s=max(1, ceil(retry_after_s)))


def _strictest_by_window(rules: str) -> list[RateLimitItem]:
    """Return the rules of a setting, for each window the strictest one.

    Rules with the same window would share a counter.
    """
    strictest_rules: dict[int, RateLimitItem] = {}
    for rule in parse_many(rules) if rules else []:
        window_s = rule.get_expiry()
        stricter_rule = strictest_rules.get(window_s)
        if stricter_rule is None or rule.amount < stricter_rule.amount:
            strictest_rules[window_s] = rule
    return list(strictest_rules.values())
