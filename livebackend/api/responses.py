"""The response envelope and its renderer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pyramid.config import Configurator

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


class EnvelopeRenderer:
    """Renders a response as JSON, with the error reason in a header; forbids caching."""

    def __init__(self, info: Any) -> None:
        pass

    def __call__(self, content: OperationResponse, system: dict[str, Any]) -> bytes:
        request = system["request"]
        request.result_code = content.result_code
        response = request.response
        response.content_type = "application/json"
        response.headers["Cache-Control"] = "no-store"
        if content.error:
            response.headers["X-Error"] = content.error.header
        return orjson.dumps(content.body())


def includeme(config: Configurator) -> None:
    config.add_renderer("envelope", EnvelopeRenderer)
