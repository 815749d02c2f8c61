"""Errors of the API layer: an invalid parameter, and an invalid request."""

from collections.abc import Sequence

from livebackend.api.error_reasons import ErrorDetail, ErrorReason
from livebackend.api.result_codes import ResultCode


class OperationFailed(Exception):
    """A parameter is invalid.

    With `result` None, the response has the operation's default error code.
    """

    def __init__(self, result: ResultCode | None, what: str, reason: ErrorReason) -> None:
        super().__init__(f"{result.name if result else 'refused'}: {what} {reason}")
        self.result = result
        self.refusal = ErrorDetail(what, reason)


class InvalidRequest(Exception):
    """The request is invalid for every operation; the response has result code 0003.

    With status 405, `allowed` holds the methods that the path allows.
    """

    def __init__(
        self, status: int, what: str, reason: ErrorReason, *, allowed: Sequence[str] = ()
    ) -> None:
        super().__init__(f"{status}: {what} {reason}")
        self.status = status
        self.allowed = allowed
        self.refusal = ErrorDetail(what, reason)
