"""The response envelope and its renderer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pyramid.response import Response

from livebackend.api.error_reasons import ErrorDetail
from livebackend.api.result_codes import ResultCode


@dataclass(frozen=True)
class OperationResponse:
    """The content of a response: result code, message, and extra fields."""

    result_code: ResultCode
    message: Any = None
    error: ErrorDetail | None = None
    extra_fields: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        return {"result": self.result_code.code, "message": self.message, **self.extra_fields}


def success(message: Any = None, **extra: Any) -> OperationResponse:
    """Return a successful response; `extra` are fields besides `message`."""
    return OperationResponse(ResultCode.OK, message, extra_fields=extra)


def error_response(result_code: ResultCode, detail: ErrorDetail) -> OperationResponse:
    """Return an error response with this result code and error detail."""
    return OperationResponse(result_code, error_message(result_code), error=detail)


def error_message(result_code: ResultCode) -> str | None:
    """Return the field `message` of a response with this error code."""
    # The API document (金币系统) specifies an error message for the coin operations only.
    return "update failed" if result_code is ResultCode.COINS_NOT_UPDATED else None


class EnvelopeResponse(Response):  # type: ignore[misc]  # Pyramid has no type hints
    """An HTTP response with an envelope; the access log needs its result code."""

    result_code: ResultCode


def render(content: OperationResponse, *, status: int = 200) -> EnvelopeResponse:
    """Return the HTTP response: the envelope as JSON, with the error reason in a header.

    The response must not be cached. No renderer of Pyramid is used: it would take as long as the
    rest of the response.
    """
    body = orjson.dumps(content.body())
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    if content.error:
        headers.append(("X-Error", content.error.header))
    response = EnvelopeResponse(body, status, headers)
    response.result_code = content.result_code
    return response
