"""Exceptions that the Python client of the livebackend API raises."""

from collections.abc import Mapping

from livebackend_client.results import REASON_MESSAGES, RESULT_MEANINGS


class ApiError(Exception):
    """A failed API call.

    If `outcome_unknown` is true, the server may have executed this attempt or an earlier one.
    `request_id` is the `requestId` of a refill or a gift: calls with the same `requestId` move
    coins at most once.
    """

    outcome_unknown: bool = False
    request_id: str | None = None


class OperationRefused(ApiError):
    """The server rejected the request.

    `code` is the result code. `parameter`, `reason` and `limits` come from the header X-Error:
    the name of the wrong parameter (or another part of the request), the error reason, and the
    limits in its message, such as {"max": 32}.
    """

    def __init__(
        self, code: str, *, error: str | None, status: int, outcome_unknown: bool = False
    ) -> None:
        self.code = code
        self.parameter, self.reason, self.limits = _parse_error_header(error or "")
        self.status = status
        self.outcome_unknown = outcome_unknown
        meaning = f"{code} {RESULT_MEANINGS.get(code, '')}"
        super().__init__(f"{meaning}: {self.explain()}" if self.reason else meaning)

    def explain(self, *, chinese: bool = False) -> str:
        """Return the parameter's name and the error message, in English or Chinese.

        Without the header, return the English meaning of the result code.
        """
        if not self.reason:
            return RESULT_MEANINGS.get(self.code, "")
        try:
            message = REASON_MESSAGES[self.reason][chinese].format_map(self.limits)
        except KeyError:  # a reason or a limit that this version of the client does not know
            return f"{self.parameter}: {self.reason}"
        return f"{self.parameter}：{message}" if chinese else f"{self.parameter} {message}"


def _parse_error_header(header: str) -> tuple[str, str, Mapping[str, str]]:
    """Return parameter, reason and limits of `parameter; reason=token; limit=value`."""
    parameter, *fields = header.split("; ")
    values = dict(field.partition("=")[::2] for field in fields)
    return parameter, values.pop("reason", ""), values


class ServerUnavailable(OperationRefused):
    """The server cannot process the request now (503).

    `retry_request_id` is the `requestId` for a retry, from the header X-Retry-Request-Id. It is
    None for all operations except refills and gifts.
    """

    def __init__(
        self,
        code: str,
        *,
        error: str | None,
        outcome_unknown: bool,
        retry_after_s: float,
        retry_request_id: str | None,
    ) -> None:
        super().__init__(code, error=error, status=503, outcome_unknown=outcome_unknown)
        self.retry_after_s = retry_after_s
        self.retry_request_id = retry_request_id


class InvalidResponse(ApiError):
    """The client received no response, or a response that is not from this API."""

    outcome_unknown = True


class ConnectionFailed(InvalidResponse):
    """The connection failed, broke, or timed out before the response."""
