"""Exceptions of the client."""

from livebackend_client.results import RESULT_MEANINGS


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

    `code` is the result code, and `refusal` is the header X-Error.
    """

    def __init__(
        self, code: str, *, error: str | None, status: int, outcome_unknown: bool = False
    ) -> None:
        super().__init__(
            f"{code} {RESULT_MEANINGS.get(code, '')}" + (f": {error}" if error else "")
        )
        self.code = code
        # The name of the parameter, a space, and the reason.
        self.error = error
        self.status = status
        self.outcome_unknown = outcome_unknown

    @property
    def reason(self) -> str | None:
        """The reason without the name of the parameter."""
        return self.error.partition(" ")[2] if self.error else None


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
    """The client received no response, or not a response of this API."""

    outcome_unknown = True


class ConnectionFailed(InvalidResponse):
    """The connection failed, broke, or timed out before the response."""
