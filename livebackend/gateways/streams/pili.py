"""What both versions of Qiniu's Pili have in common."""

import logging
from typing import Any
from urllib.parse import quote

from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.qiniu import Qiniu, QiniuFailed
from livebackend.gateways.streams.protocol import (
    NoSuchStream,
    NotAuthorized,
    NotLive,
    ProviderAway,
    StreamExists,
    StreamFailed,
)

log = logging.getLogger(__name__)

# Compared as numbers: some are beyond what http.HTTPStatus knows.
_KINDS: dict[int, type[StreamFailed]] = {
    401: NotAuthorized,
    404: NoSuchStream,
    612: NoSuchStream,
    614: StreamExists,
    619: NotLive,
}
# Version 1 says so in words, whatever the status.
_EXISTS = "duplicated content"


class Pili:
    """Calls Pili, and names what goes wrong."""

    def __init__(self, qiniu: Qiniu, base: str) -> None:
        self._qiniu = qiniu
        self._base = base

    def call(
        self, method: str, path: str, body: Any = None, *, deadline: Deadline | None = None
    ) -> Any:
        """The JSON of the answer, None for an empty one. Raises StreamFailed."""
        try:
            return self._qiniu.call(method, self._base + path, body, deadline=deadline)
        except QiniuFailed as error:
            kind = _kind(error)
            if kind is NotAuthorized:
                log.critical("no stream can be made until Qiniu's keys are mended: %s", error)
            raise kind(str(error)) from error


def _kind(error: QiniuFailed) -> type[StreamFailed]:
    if error.status is None or 500 <= error.status < 600:
        return ProviderAway
    if _EXISTS in error.error:
        return StreamExists
    return _KINDS.get(error.status, StreamFailed)


def escaped(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")


def items(answer: Any) -> list[dict[str, Any]]:
    """The list in an answer. Raises StreamFailed for one without: silence tells of nobody."""
    if not isinstance(answer, dict) or "items" not in answer:
        raise StreamFailed("the answer is no list")
    found = answer["items"]
    if found is None:  # an empty list, as some servers write it
        return []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise StreamFailed("the answer is no list")
    return found
