"""Errors of the API itself: a refused parameter, and a request that is not one of the API."""

from collections.abc import Sequence

from livebackend.api.error_reasons import Reason, Refusal
from livebackend.api.result_codes import Result


class Failure(Exception):
    """A parameter is refused before the operation begins.

    `result` None stands for the operation's default error code.
    """

    def __init__(self, result: Result | None, what: str, reason: Reason) -> None:
        super().__init__(f"{result.name if result else 'refused'}: {what} {reason}")
        self.result = result
        self.refusal = Refusal(what, reason)


class NotACall(Exception):
    """The request is not an API call. Answered with 0003 and `status`.

    `allowed` has the methods that the path allows, with status 405.
    """

    def __init__(
        self, status: int, what: str, reason: Reason, *, allowed: Sequence[str] = ()
    ) -> None:
        super().__init__(f"{status}: {what} {reason}")
        self.status = status
        self.allowed = allowed
        self.refusal = Refusal(what, reason)
