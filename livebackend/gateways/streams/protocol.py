"""What every provider of streams promises, and how it fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import orjson


class StreamFailed(Exception):
    """The provider refused, answered nonsense, or did not answer in time."""


class NoSuchStream(StreamFailed):
    """The provider knows no such stream, or no such hub."""


class StreamExists(StreamFailed):
    """There is a stream of that name already."""


class NotLive(StreamFailed):
    """The stream has no publisher."""


class NotAuthorized(StreamFailed):
    """Our keys are refused: an operator has to mend that."""


class ProviderAway(StreamFailed):
    """It did not answer, or has an error of its own: the same may succeed later."""


@dataclass(frozen=True)
class Stream:
    """A stream as the broadcaster's app reads it, and the URLs where others watch.

    `document` has every key of the API document's example, `publishKey` among them.
    `play_urls` has "rtmp", "hls" and "hdl".
    """

    document: dict[str, Any]
    play_urls: dict[str, str | None]

    @property
    def text(self) -> str:
        """The document in JSON, as it is stored and sent to the broadcaster's app."""
        return orjson.dumps(self.document).decode()


def document_of(text: str) -> dict[str, Any]:
    """Return the document of a stream from its text."""
    document: dict[str, Any] = orjson.loads(text)
    return document


@runtime_checkable
class StreamGateway(Protocol):
    """Each call ends within 4 s, and raises StreamFailed for whatever went wrong.

    Nothing is repeated by itself: a caller whose call failed does not know whether it was done.
    """

    def create(self, key: str, publish_key: str) -> Stream:
        """Makes a stream that takes a publisher with this key."""

    def knows(self, key: str) -> bool:
        """Whether a stream that was made is still there."""

    def disable(self, key: str) -> None:
        """Cuts the stream's publisher off for good; done already for a stream that is no more."""

    def on_air(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        """Which of up to 100 streams have a publisher now, with his name there, if he has one."""

    def publish_url(self, document: Mapping[str, Any]) -> str:
        """Where the broadcaster sends a stream that was made, from now on for a while."""
