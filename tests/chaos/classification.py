"""Classifies the response to a request: answered, refused, wrong or lost."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tests.chaos.client import Exchange

# Returns what is wrong with a response envelope, or "" for a correct one.
Check = Callable[[dict[str, Any]], str]
_ENVELOPE_KEYS = {"result", "message"}


class Outcome(Enum):
    """What a client experiences."""

    ANSWERED = "answered"
    REFUSED = "refused"
    WRONG = "wrong"
    LOST = "lost"


@dataclass(frozen=True)
class Call:
    """A request with a known response; `refusal_code` is the path's code in a 503.

    With `refusal_reason`, a response with status 200, this code and this error reason is a refusal.
    """

    operation: str
    path: str
    form: Mapping[str, str]
    refusal_code: str
    check: Check
    picture: bytes | None = None
    refusal_reason: str = ""


@dataclass(frozen=True)
class Result:
    """The outcome of one request; `detail` describes a response that is not correct."""

    operation: str
    outcome: Outcome
    sent_at: float
    duration_s: float
    stale_count: int
    detail: str = ""


def classify(call: Call, exchange: Exchange) -> Result:
    outcome, detail = _outcome(call, exchange)
    return Result(
        call.operation,
        outcome,
        exchange.sent_at,
        exchange.duration_s,
        exchange.stale_count,
        f"{call.operation}: {detail}" if detail else "",
    )


def _outcome(call: Call, exchange: Exchange) -> tuple[Outcome, str]:
    if not exchange.status:
        return Outcome.LOST, f"{exchange.error} after {exchange.duration_s:.1f} s"
    envelope = _envelope(exchange.body)
    if envelope is None:
        return Outcome.WRONG, f"status {exchange.status} without an envelope"
    error_header = exchange.headers.get("x-error", "")
    summary = f"status {exchange.status}, {envelope['result']}, {error_header}"
    has_refusal_code = envelope["result"] == call.refusal_code
    if exchange.status == 503:
        is_complete = has_refusal_code and "retry-after" in exchange.headers
        return (Outcome.REFUSED if is_complete else Outcome.WRONG), summary
    if exchange.status != 200:
        return Outcome.WRONG, summary
    if has_refusal_code and call.refusal_reason and f"={call.refusal_reason}" in error_header:
        return Outcome.REFUSED, summary
    problem = _problem(call, envelope)
    return (Outcome.WRONG, f"{summary}: {problem}") if problem else (Outcome.ANSWERED, "")


def _envelope(body: bytes) -> dict[str, Any] | None:
    try:
        envelope = json.loads(body)
    except ValueError:
        return None
    return envelope if isinstance(envelope, dict) and envelope.keys() >= _ENVELOPE_KEYS else None


def _problem(call: Call, envelope: dict[str, Any]) -> str:
    try:
        return call.check(envelope)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return f"the message has another structure: {error!r}"
