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
    """What must hold in a row. None: no limit."""

    refused: int | None = None
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
            ("seconds of the longest call", observation.longest_s, self.longest_s),
            ("seconds to recover", observation.recovery_s, self.recovery_s),
            ("seconds until /readyz agreed", observation.agreement_s, self.agreement_s),
            ("p99 in seconds", observation.p99_s, self.p99_s),
        ]
        return [
            f"{name}: {figure:.3g}, limit {limit:g}"
            for name, figure, limit in figures
            if figure is not None and limit is not None and figure > limit
        ]


class Skipped(Exception):
    """A fault cannot be injected here; the message has the reason."""


@dataclass(frozen=True)
class Row:
    """A fault, how it is injected and observed, and its limits."""

    name: str
    observe: Callable[[Site, Scale], Observation]
    limits: Limits


# A fault of the database: every call ends within 5 s, and the service is well after 2 s.
DATABASE_LIMITS = Limits(longest_s=5, recovery_s=2, agreement_s=2)
# A fault that must affect no request.
UNHARMED = Limits(refused=0, recovery_s=0)
