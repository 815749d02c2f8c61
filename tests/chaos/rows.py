"""The faults and their limits: one row of the table for each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.chaos.classification import Outcome
from tests.chaos.observation import Observation
from tests.chaos.site import Site

_Duration = TypeVar("_Duration", int, float)


@dataclass(frozen=True)
class Scale:
    """The length of a run: the full one, or the short one of CI."""

    is_short: bool

    def pick(self, full: _Duration, short: _Duration) -> _Duration:
        return short if self.is_short else full


@dataclass(frozen=True)
class Limits:
    """What must hold in a row. None: no limit.

    The minimums show that there was a load, and that it met the fault: without requests, every
    other limit holds. `sent_again` limits the requests whose connection was closed too early.
    """

    min_answered: int = 100
    min_refused: int = 0
    refused: int | None = None
    sent_again: int = 3
    lost: int | None = 0
    longest_s: float | None = None
    recovery_s: float | None = None
    agreement_s: float | None = None
    p99_s: float | None = None

    def exceeded(self, observation: Observation) -> list[str]:
        """Return a text for each limit that was exceeded."""
        figures: list[tuple[str, float | None, float | None]] = [
            ("wrong responses", observation.count(Outcome.WRONG), 0),
            ("lost requests", observation.count(Outcome.LOST), self.lost),
            ("refused requests", observation.count(Outcome.REFUSED), self.refused),
            ("requests sent again", observation.stale_count, self.sent_again),
            ("seconds of the longest call", observation.longest_s, self.longest_s),
            ("seconds to recover", observation.recovery_s, self.recovery_s),
            ("seconds until /readyz agreed", observation.agreement_s, self.agreement_s),
            ("p99 in seconds", observation.p99_s, self.p99_s),
        ]
        minimums = [
            ("answered requests", observation.count(Outcome.ANSWERED), self.min_answered),
            ("refused requests", observation.count(Outcome.REFUSED), self.min_refused),
        ]
        problems = [
            f"{name}: {figure}, minimum {minimum}"
            for name, figure, minimum in minimums
            if figure < minimum
        ]
        if self.agreement_s is not None and not observation.has_readiness:
            problems.append("/readyz was not requested during the fault")
        return problems + [
            f"{name}: {figure:.3g}, limit {limit:g}"
            for name, figure, limit in figures
            if figure is not None and limit is not None and figure > limit
        ]


class Skipped(Exception):
    """A fault cannot be injected here; the message has the reason."""


@dataclass(frozen=True)
class Row:
    """A fault, how it is injected and observed, and its limits.

    The short form leaves out a row with `covered_by`, which names a test that CI runs anyway.
    """

    name: str
    observe: Callable[[Site, Scale], Observation]
    limits: Limits
    covered_by: str = ""


# Clients of a row, unless it needs more.
CLIENT_COUNT = 24
# An outage of the database: some calls are refused, every call ends within 5 s, and no call is
# refused 2 s later.
OUTAGE_LIMITS = Limits(min_refused=1, longest_s=5, recovery_s=2, agreement_s=2)
# A fault that must affect no request.
NO_EFFECT_LIMITS = Limits(refused=0, recovery_s=0)
