"""Exceptions of the client."""

from livebackend_client.results import MEANINGS


class ApiError(Exception):
    """A failed API call.

    If `outcome_unknown`, the server may have executed this attempt or an earlier one.
    `request_id` is the `requestId` of a refill or a gift: calls with the same `requestId` move
    coins at most once.
    """

    outcome_unknown: bool = False
    request_id: str | None = None


class Refused(ApiError):
    """The server refused the call: `code` is the result code, `refusal` the header X-Refusal."""

    def __init__(
        self, code: str, *, refusal: str | None, status: int, outcome_unknown: bool = False
    ) -> None:
        super().__init__(f"{code} {MEANINGS.get(code, '')}" + (f": {refusal}" if refusal else ""))
        self.code = code
        # The parameter, a space, and the reason.
        self.refusal = refusal
        self.status = status
        self.outcome_unknown = outcome_unknown

    @property
    def reason(self) -> str | None:
        """The reason without the parameter."""
        return self.refusal.partition(" ")[2] if self.refusal else None


class NotServed(Refused):
    """The server cannot serve the call now (503).

    `retry_request_id` is the `requestId` that the server asks for in a retry (X-Repeat-As). It is
    None for all calls except refills and gifts.
    """

    def __init__(
        self,
        code: str,
        *,
        refusal: str | None,
        outcome_unknown: bool,
        retry_after_s: float,
        retry_request_id: str | None,
    ) -> None:
        super().__init__(code, refusal=refusal, status=503, outcome_unknown=outcome_unknown)
        self.retry_after_s = retry_after_s
        self.retry_request_id = retry_request_id


class NoReply(ApiError):
    """No response, or a response that is not from this API."""

    outcome_unknown = True


class NotReached(NoReply):
    """The server does not accept the connection, does not respond in time, or closes it."""
