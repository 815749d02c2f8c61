"""Errors of the API layer: an invalid parameter, and an invalid request."""

from collections.abc import Sequence

from livebackend.api.error_reasons import ErrorDetail, ErrorReason
from livebackend.api.result_codes import ResultCode


class InvalidParameter(Exception):
    """A parameter is invalid.

    Without `result_code`, the response has the operation's default error code. `limits` has the
    values of the limits that the reason names.
    """

    def __init__(
        self, result_code: ResultCode | None, parameter: str, reason: ErrorReason, **limits: int
    ) -> None:
        self.result_code = result_code
        self.detail = ErrorDetail(parameter, reason, limits)
        super().__init__(self.detail.message)


class InvalidRequest(Exception):
    """The request is invalid for every operation; the response has result code 0003.

    With status 405, `allowed` holds the methods that the path allows. `limits` has the values of
    the limits that the reason names.
    """

    def __init__(
        self,
        status: int,
        parameter: str,
        reason: ErrorReason,
        *,
        allowed: Sequence[str] = (),
        **limits: int,
    ) -> None:
        self.status = status
        self.allowed = allowed
        self.detail = ErrorDetail(parameter, reason, limits)
        super().__init__(f"{status}: {self.detail.message}")
