"""The protocol of stream gateways, and the errors that stream gateways raise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import orjson


class StreamFailed(Exception):
    """The provider rejected the request, responded incorrectly or timed out."""


class NoSuchStream(StreamFailed):
    """The stream or its hub does not exist at the provider."""


class StreamExists(StreamFailed):
    """A stream with this name already exists."""


class NoPublisher(StreamFailed):
    """The stream has no publisher."""


class NotAuthorized(StreamFailed):
    """The provider rejects the keys: an operator must correct the settings."""


class ProviderUnavailable(StreamFailed):
    """The provider did not respond or had an internal error. A retry can succeed."""


@dataclass(frozen=True)
class Stream:
    """A stream: the JSON for the host's app, and the play URLs for viewers.

    `document` has every key of the example in the API document, including the secret `publishKey`.
    `play_urls` has the keys "rtmp", "hls" and "hdl".
    """

    document: dict[str, Any]
    play_urls: dict[str, str | None]

    @property
    def document_json(self) -> str:
        """The document as JSON text, as stored and as sent to the host's app."""
        return orjson.dumps(self.document).decode()


class StreamReference(NamedTuple):
    """A stream's key, and the id in the response to its creation.

    `id` is None if the server did not receive the response, or did not store it.
    """

    key: str
    id: str | None = None


def stream_reference(key: str, document_json: str | None) -> StreamReference:
    """Return the reference of a stream with this stored JSON, if any."""
    return StreamReference(key, parse_document(document_json).get("id") if document_json else None)


def parse_document(text: str) -> dict[str, Any]:
    """Parse the JSON text of a stream's document."""
    document: dict[str, Any] = orjson.loads(text)
    return document


@runtime_checkable
class StreamGateway(Protocol):
    """A stream provider. Every call returns within 4 s or raises StreamFailed.

    No call is retried. The outcome of a failed call is unknown.
    """

    def create(self, key: str, publish_key: str) -> Stream:
        """Create a stream that accepts a publisher with this publish key."""

    def exists(self, stream: StreamReference) -> bool:
        """Return whether a created stream still exists."""

    def disable(self, stream: StreamReference) -> None:
        """Disconnect the stream's publisher, and reject all later publishers.

        With nginx-rtmp, the API's hook rejects them. Succeeds if the stream does not exist.
        """

    def live_publishers(self, streams: Sequence[StreamReference]) -> Mapping[str, str | None]:
        """Return the publisher's id for each live stream, by stream key.

        `streams` has up to 100 streams. An id is None if the provider does not report it.
        """

    def publish_url(self, document: Mapping[str, Any]) -> str:
        """Return the URL at which the host publishes; the URL can expire."""
