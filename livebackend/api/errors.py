"""Errors of the API layer: an invalid parameter, and an invalid request."""

from collections.abc import Sequence

from livebackend.api.error_reasons import Reason, Refusal
from livebackend.api.result_codes import Result


class Failure(Exception):
    """A parameter is invalid.

    With `result` None, the response has the operation's default error code.
    """

    def __init__(self, result: Result | None, what: str, reason: Reason) -> None:
        super().__init__(f"{result.name if result else 'refused'}: {what} {reason}")
        self.result = result
        self.refusal = Refusal(what, reason)


class NotACall(Exception):
    """The request is invalid for every operation; the response has result code 0003.

    With status 405, `allowed` holds the methods that the path allows.
    """

    def __init__(
        self, status: int, what: str, reason: Reason, *, allowed: Sequence[str] = ()
    ) -> None:
        super().__init__(f"{status}: {what} {reason}")
        self.status = status
        self.allowed = allowed
        self.refusal = Refusal(what, reason)
