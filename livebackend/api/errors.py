"""Errors of the API: a refused operation, and a request that is no operation's."""

from dataclasses import dataclass

from livebackend.api.error_reasons import Reason
from livebackend.api.result_codes import Result


@dataclass(frozen=True)
class Refusal:
    """What was wrong with a call: a parameter (or the part of the call) and the broken rule."""

    what: str
    reason: Reason

    def __str__(self) -> str:
        return f"{self.what} {self.reason}"


class Failure(Exception):
    """Ends an operation and undoes what it wrote; the reply bears `result`.

    `result` None stands for the refusal code of the operation that was called. `retry_after_s`
    says when the same call may succeed, where that is known.
    """

    def __init__(
        self,
        result: Result | None,
        what: str,
        reason: Reason,
        *,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(f"{result.name if result else 'refused'}: {what} {reason}")
        self.result = result
        self.refusal = Refusal(what, reason)
        self.retry_after_s = retry_after_s


class NotACall(Exception):
    """The request has not the shape of a call; nobody's operation saw it. Answered with 0003."""

    def __init__(self, status: int, what: str, reason: Reason) -> None:
        super().__init__(f"{status}: {what} {reason}")
        self.status = status
        self.refusal = Refusal(what, reason)
