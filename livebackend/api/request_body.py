"""Limit of the request body, which depends on path and media type."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

from multipart import parse_options_header
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.tweens import EXCVIEW

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest

_UPLOAD_PATH = "/upload"
MULTIPART = "multipart/form-data"


# Returns the media type and the parameters of a Content-Type header. Clients send few different
# ones, but each multipart form has another boundary.
parse_content_type = lru_cache(maxsize=256)(parse_options_header)


@dataclass(frozen=True)
class BodyLimits:
    """The maximum bytes of a body.

    `max_upload_bytes` applies to multipart forms at /upload.
    """

    max_bytes: int
    max_upload_bytes: int

    def max_bytes_of(self, request: Request) -> int:
        """Return the maximum bytes of a request's body."""
        if request.environ["PATH_INFO"] != _UPLOAD_PATH:
            return self.max_bytes
        media_type, _ = parse_content_type(request.environ.get("CONTENT_TYPE") or "")
        return self.max_upload_bytes if media_type == MULTIPART else self.max_bytes


class LimitedBody:
    """The body of a request, as a file that provides at most `max_bytes` bytes.

    A chunked body has no Content-Length, so its size is known only after it has been read.
    """

    def __init__(self, stream: BinaryIO, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._unread_bytes = max_bytes

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, by default the whole body.

        Raises InvalidRequest with status 413 if the body is larger than the limit.
        """
        # One byte more than allowed is read, to detect a body that is too large.
        max_size = self._unread_bytes + 1
        content = self._stream.read(max_size if size < 0 else min(size, max_size))
        self._unread_bytes -= len(content)
        if self._unread_bytes < 0:
            raise _too_large(self._max_bytes)
        return content


def limit_body_tween_factory(
    handler: Callable[[Request], Any], registry: Any
) -> Callable[[Request], Any]:
    """Tween that rejects large bodies, by Content-Length or while the body is read."""
    limits: BodyLimits = registry.body_limits

    def tween(request: Request) -> Any:
        max_bytes = limits.max_bytes_of(request)
        if (request.content_length or 0) > max_bytes:
            raise _too_large(max_bytes)
        request.environ["wsgi.input"] = LimitedBody(request.environ["wsgi.input"], max_bytes)
        return handler(request)

    return tween


def _too_large(max_bytes: int) -> InvalidRequest:
    return InvalidRequest(413, "body", ErrorReason.TOO_LARGE, max=max_bytes)


def includeme(config: Configurator) -> None:
    # The tween is under the exception views, which render its error as a response envelope.
    config.add_tween(f"{__name__}.{limit_body_tween_factory.__name__}", under=EXCVIEW)
