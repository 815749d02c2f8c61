"""Exceptions that the Python client of the livebackend API raises."""

from collections.abc import Mapping

from livebackend_client.error_reasons import ErrorReason


class ApiError(Exception):
    """A failed API call. It contains no login token, password or code.

    If `outcome_unknown` is true, the server may have executed this attempt or an earlier one.
    `request_id` is the idempotency key of a refill or a gift: calls with the same `request_id` move
    coins at most once. `server_request_id` is a header X-Request-Id, by which the operator finds
    the request in the server's log: if the outcome is unknown, that of the first response that left
    it unknown; otherwise, or if that response had none, that of the last response. None if no
    response had the header.
    """

    outcome_unknown: bool = False
    request_id: str | None = None
    server_request_id: str | None = None

    def __str__(self) -> str:
        text = self._text()
        return f"{text} (X-Request-Id {self.server_request_id})" if self.server_request_id else text

    def _text(self) -> str:
        return super().__str__()


class OperationRefused(ApiError):
    """The server rejected the request. There is a subclass for each result code.

    `code` is the result code; this class itself is raised for a code that a newer server added.
    `parameter`, `reason` and `limits` come from the header X-Error: the API's name of the wrong
    parameter (or another part of the request), the error reason, and the limits in its message,
    such as {"max": "32"}. `reason` is a plain str if a newer server added it. Without the header,
    `parameter` and `reason` are None. `retry_after_s` is the number of seconds to wait before a
    retry, from the header Retry-After, or None.
    """

    code: str
    meaning: str = "result code of a newer server"
    chinese_meaning: str = "新版本服务器的返回码"

    def __init__(
        self,
        code: str,
        *,
        status: int = 200,
        error_header: str = "",
        outcome_unknown: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.parameter, self.reason, self.limits = _parse_error_header(error_header)
        self.outcome_unknown = outcome_unknown
        self.retry_after_s = retry_after_s

    def explain(self, *, chinese: bool = False) -> str:
        """Return the parameter's name and the error message, in English or Chinese.

        Without the header, return the meaning of the result code.
        """
        if self.reason is None:
            return self.chinese_meaning if chinese else self.meaning
        try:
            reason = ErrorReason(self.reason)
            message = (reason.chinese if chinese else reason.english).format_map(self.limits)
        except (ValueError, KeyError):  # a reason or a limit that a newer server added
            return f"{self.parameter}: {self.reason}"
        return f"{self.parameter}：{message}" if chinese else f"{self.parameter} {message}"

    def _text(self) -> str:
        text = f"{self.code} {self.meaning}"
        return text if self.reason is None else f"{text}: {self.explain()}"


class ServerUnavailable(OperationRefused):
    """The server cannot process the request now (503).

    Without the header Retry-After, `retry_after_s` is 1. `retry_request_id` is the `request_id` for
    a retry, from the header X-Retry-Request-Id. It is None for all operations except refills and
    gifts.
    """

    meaning = "the server cannot process the request now"
    chinese_meaning = "服务器暂时无法处理请求"
    retry_after_s: float

    def __init__(
        self,
        code: str,
        *,
        error_header: str = "",
        outcome_unknown: bool = False,
        retry_after_s: float = 1.0,
        retry_request_id: str | None = None,
    ) -> None:
        super().__init__(
            code,
            status=503,
            error_header=error_header,
            outcome_unknown=outcome_unknown,
            retry_after_s=retry_after_s,
        )
        self.retry_request_id = retry_request_id


class InvalidResponse(ApiError):
    """The client received no response, or a response that is not from this API."""

    outcome_unknown = True


class ConnectionFailed(InvalidResponse):
    """The connection failed, broke, or timed out before the response."""


def _parse_error_header(
    header: str,
) -> tuple[str | None, ErrorReason | str | None, Mapping[str, str]]:
    """Return parameter, reason and limits of `parameter; reason=token; limit=value`."""
    parameter, *fields = header.split("; ")
    values = dict(field.partition("=")[::2] for field in fields)
    reason = values.pop("reason", None)
    return parameter or None, _known_reason(reason) if reason else None, values


def _known_reason(token: str) -> ErrorReason | str:
    try:
        return ErrorReason(token)
    except ValueError:
        return token
