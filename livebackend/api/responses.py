"""The response envelope and its renderer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pyramid.config import Configurator

from livebackend.api.error_reasons import Refusal
from livebackend.api.result_codes import Result


@dataclass(frozen=True)
class Reply:
    """The content of a response: result code, message, and extra fields."""

    result: Result
    message: Any = None
    refusal: Refusal | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        return {"result": self.result.code, "message": self.message, **self.extra}


def ok(message: Any = None, **extra: Any) -> Reply:
    """Return a successful response; `extra` are fields besides `message`."""
    return Reply(Result.OK, message, extra=extra)


def refused(result: Result, refusal: Refusal) -> Reply:
    """Return an error response."""
    # The API document (金币系统) specifies this text for the coin operations only.
    message = "update failed" if result is Result.NOT_UPDATED else None
    return Reply(result, message, refusal=refusal)


class Envelope:
    """Renders a Reply as JSON, and its error reason as a header; never cached."""

    def __init__(self, info: Any) -> None:
        pass

    def __call__(self, reply: Reply, system: dict[str, Any]) -> bytes:
        request = system["request"]
        request.result = reply.result
        response = request.response
        response.content_type = "application/json"
        response.headers["Cache-Control"] = "no-store"
        if reply.refusal:
            response.headers["X-Refusal"] = str(reply.refusal)
        return orjson.dumps(reply.body())


def includeme(config: Configurator) -> None:
    config.add_renderer("envelope", Envelope)
