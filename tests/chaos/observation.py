"""Runs a fault under load, and derives the figures of its row."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import text

from livebackend.database.engine import Database
from livebackend.ledger.audit import audit
from livebackend.ledger.transfers import client_request_id
from tests.chaos import calls
from tests.chaos.classification import Outcome, Result
from tests.chaos.client import HttpClient
from tests.chaos.load import Load, send
from tests.chaos.readiness import ReadinessLog
from tests.chaos.regular_calls import RegularCalls

WARM_UP_S = 2.0
# After a fault, the load continues until all requests were answered for _STABLE_S.
_STABLE_S, _MAX_RECOVERY_S = 2.5, 20.0
_AUDIT_TIMEOUT_S = 60
_END_MARGIN_S = 0.5
_MAX_GAP_S = 1.0
# The client address of the regular calls, which no client of the load has.
_REGULAR_CALLS_ADDRESS = "127.0.2.1"

_SELECT_TRANSFERS = text(
    "SELECT actor_id, request_id FROM transfers WHERE kind = 1 AND actor_id = ANY(:actors)"
)


@dataclass(frozen=True)
class Observation:
    """The results of the requests during a fault, and the errors of the data afterwards."""

    results: list[Result]
    errors: list[str]
    started_at: float
    ended_at: float
    readiness: ReadinessLog | None = None
    # Calls at regular times, with which /readyz is compared.
    regular_results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, outcome: Outcome) -> int:
        return sum(result.outcome is outcome for result in self.results)

    @property
    def stale_count(self) -> int:
        return sum(result.stale_count for result in self.results)

    @property
    def longest_s(self) -> float:
        return max((result.duration_s for result in self.results), default=0)

    @property
    def p99_s(self) -> float:
        """The duration that 99 % of the calls without a login do not exceed."""
        durations = sorted(r.duration_s for r in self.results if r.operation != "login")
        return durations[len(durations) * 99 // 100] if durations else 0

    @property
    def recovery_s(self) -> float:
        """Seconds from the end of the fault to the last request that was not answered."""
        return max(0, max(self._failure_times, default=0) - self.ended_at)

    @property
    def has_readiness(self) -> bool:
        """Whether /readyz was requested during the fault."""
        statuses = self.readiness.statuses if self.readiness else []
        return any(self.started_at <= sent_at <= self.ended_at for sent_at, _ in statuses)

    @property
    def agreement_s(self) -> float | None:
        """The longest time for which /readyz and the calls contradicted each other.

        It is 200 without interruption while calls that are sent fail; or it is not 200 after the
        fault is over and no call fails any more.
        """
        if self.readiness is None:
            return None
        wrongly_ready_s = [
            self._ready_s(begin, end, self.readiness) for begin, end in self._failing_intervals()
        ]
        recovered_at = max([*self._failure_times, self.ended_at])
        wrongly_unready_s = [time_s - recovered_at for time_s in self.readiness.times(ready=False)]
        return max([0, *wrongly_ready_s, *wrongly_unready_s])

    def _ready_s(self, begin: float, end: float, readiness: ReadinessLog) -> float:
        """Return the longest time in an interval for which /readyz was 200 without interruption.

        The end of the fault ends the interval too.
        """
        # The database already works shortly before `inject` returns.
        end = min(end, self.ended_at - _END_MARGIN_S)
        longest_s, unready_at = 0.0, begin
        for sent_at, status in readiness.statuses:
            if not begin <= sent_at <= end:
                continue
            if status == 200:
                longest_s = max(longest_s, sent_at - unready_at)
            else:
                unready_at = sent_at
        return longest_s

    def _failing_intervals(self) -> list[tuple[float, float]]:
        """Return the intervals in which the regular calls fail that are sent in them.

        Calls that succeed for at most _MAX_GAP_S do not end an interval.
        """
        intervals: list[tuple[float, float]] = []
        for result in sorted(self.regular_results, key=lambda result: result.sent_at):
            if result.outcome is Outcome.ANSWERED:
                continue
            begin = result.sent_at
            if intervals and begin <= intervals[-1][1] + _MAX_GAP_S:
                begin, _ = intervals.pop()
            intervals.append((begin, result.sent_at))
        return intervals

    @property
    def _failures(self) -> list[Result]:
        return [result for result in self.results if result.outcome is not Outcome.ANSWERED]

    @property
    def _failure_times(self) -> list[float]:
        return [result.sent_at for result in self._failures]

    def examples(self, outcome: Outcome) -> list[str]:
        """Return the most frequent descriptions of an outcome."""
        details = Counter(result.detail for result in self.results if result.outcome is outcome)
        return [f"{count} × {detail}" for detail, count in details.most_common(3)]


def observe(
    load: Load,
    database_url: str,
    inject: Callable[[], object],
    *,
    readiness_port: int | None = None,
) -> Observation:
    """Run a load, inject a fault meanwhile, wait for the recovery, and check the gifts.

    The fault lasts as long as `inject` runs.
    """
    readiness = ReadinessLog(readiness_port) if readiness_port else None
    regular_calls = RegularCalls(partial(_send_friend_list, load))
    load.start()
    try:
        if readiness:
            readiness.start()
            regular_calls.start()
        time.sleep(WARM_UP_S)
        started_at = time.monotonic()
        inject()
        ended_at = time.monotonic()
        _await_recovery(load, readiness, ended_at)
    finally:
        load.stop()
        if readiness:
            readiness.stop()
        regular_calls.stop()
    errors = load.errors + check_gifts(load, database_url)
    return Observation(load.results, errors, started_at, ended_at, readiness, regular_calls.results)


def _send_friend_list(load: Load) -> Result:
    client = HttpClient(load.endpoint, _REGULAR_CALLS_ADDRESS)
    try:
        return send(client, calls.friend_list(load.users.users[0]))
    finally:
        client.close()


def _await_recovery(load: Load, readiness: ReadinessLog | None, ended_at: float) -> None:
    while time.monotonic() < ended_at + _MAX_RECOVERY_S:
        time.sleep(0.25)
        failures = [
            r.sent_at + r.duration_s for r in load.results if r.outcome is not Outcome.ANSWERED
        ]
        if readiness:
            failures += readiness.times(ready=False)
        if time.monotonic() > max([*failures, ended_at]) + _STABLE_S:
            return


def check_gifts(load: Load, database_url: str) -> list[str]:
    """Return the findings of the audit, and the gifts that contradict the ledger."""
    database = Database(database_url, statement_timeout_s=_AUDIT_TIMEOUT_S)
    try:
        return _compare_gifts(load, database) + [
            f"audit: {finding.check}: {finding.detail}"
            for finding in audit(database, since_checkpoint=False).findings
        ]
    finally:
        database.close()


def _compare_gifts(load: Load, database: Database) -> list[str]:
    actors = list({gift.sender.coins_id for gift in load.gifts})
    with database.engine.connect() as connection:
        rows = connection.execute(_SELECT_TRANSFERS, {"actors": actors})
        counts = Counter((row.actor_id, row.request_id) for row in rows)
    errors = []
    for gift in load.gifts:
        key = gift.sender.coins_id, client_request_id(gift.sender.coins_id, gift.request_id)
        if not gift.is_confirmed:
            errors.append(f"gift {gift.request_id} was never confirmed")
        elif counts[key] != 1:
            errors.append(f"confirmed gift {gift.request_id} has {counts[key]} transfers")
    return errors
