"""Shared client code of Qiniu's Pili v1 and v2."""

import logging
from typing import Any
from urllib.parse import quote

from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.qiniu import QiniuClient, QiniuFailed
from livebackend.gateways.streams.protocol import (
    NoPublisher,
    NoSuchStream,
    NotAuthorized,
    ProviderUnavailable,
    StreamExists,
    StreamFailed,
)

log = logging.getLogger(__name__)

# Plain numbers, because http.HTTPStatus does not have 612 to 619.
_ERRORS_BY_STATUS: dict[int, type[StreamFailed]] = {
    401: NotAuthorized,
    404: NoSuchStream,
    612: NoSuchStream,
    614: StreamExists,
    619: NoPublisher,
}
# Pili v1 reports an existing stream with this text in the error; the HTTP status varies.
_STREAM_EXISTS_TEXT = "duplicated content"


class PiliClient:
    """Client of Pili that maps errors to subclasses of StreamFailed."""

    def __init__(self, qiniu: QiniuClient, path_prefix: str) -> None:
        self._qiniu = qiniu
        self._path_prefix = path_prefix

    def call(
        self, method: str, path: str, body: Any = None, *, deadline: Deadline | None = None
    ) -> Any:
        """Send a request; return the response's JSON, or None for an empty body.

        Raises StreamFailed.
        """
        try:
            return self._qiniu.call(method, self._path_prefix + path, body, deadline=deadline)
        except QiniuFailed as error:
            error_class = _error_class(error)
            if error_class is NotAuthorized:
                log.critical("streams: Qiniu rejects the keys, no stream can be created: %s", error)
            raise error_class(str(error)) from error


def _error_class(error: QiniuFailed) -> type[StreamFailed]:
    if error.status is None or 500 <= error.status < 600:
        return ProviderUnavailable
    if _STREAM_EXISTS_TEXT in error.error:
        return StreamExists
    return _ERRORS_BY_STATUS.get(error.status, StreamFailed)


def quote_path_segment(name: str) -> str:
    """Quote a name as a path segment."""
    return quote(name, safe="")


def listed_items(response: Any) -> list[dict[str, Any]]:
    """Return the list in the field `items` of Pili's response; null counts as empty.

    Raises StreamFailed for any other response, because an empty list means that no stream is live.
    """
    if not isinstance(response, dict) or "items" not in response:
        raise StreamFailed("Pili's response has no field `items`")
    entries = response["items"]
    if entries is None:  # some servers encode an empty list as null
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise StreamFailed("the field `items` of Pili's response is not a list of objects")
    return entries
