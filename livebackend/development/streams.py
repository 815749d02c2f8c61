"""Development stream gateway, which simulates streams without a media server."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from time import time
from typing import Any, Self

from livebackend.config.settings import Settings
from livebackend.gateways.streams.protocol import (
    NoSuchStream,
    ProviderUnavailable,
    Stream,
    StreamFailed,
    StreamReference,
)
from livebackend.gateways.streams.publish_urls import PublishUrlSigner
from livebackend.gateways.streams.stream_documents import (
    StreamHosts,
    StreamTimes,
    new_document,
    play_urls,
)

_STREAM_LIFETIME = timedelta(days=16)
_MAX_STORED_KEYS = 1000


class DevelopmentStreams:
    """Simulates the streams of a hub.

    A stream is live as soon as it is created, until `disable` or `stop_publishing`. The methods
    after `publish_url` are for tests: they simulate events at the provider.
    """

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(hub=settings.streams_hub, clock=time)

    def __init__(self, *, hub: str, clock: Callable[[], float]) -> None:
        self._hub = hub
        self._clock = clock
        self._url_signer = PublishUrlSigner(clock, lifetime_s=3600)
        # The newest offline, disabled and deleted streams, by key. All other streams are live.
        self._offline: deque[str] = deque(maxlen=_MAX_STORED_KEYS)
        self._disabled: deque[str] = deque(maxlen=_MAX_STORED_KEYS)
        self._deleted: deque[str] = deque(maxlen=_MAX_STORED_KEYS)
        self._failure: StreamFailed | None = None

    def create(self, key: str, publish_key: str) -> Stream:
        self._raise_failure()
        if key in self._deleted:
            self._deleted.remove(key)
        # RFC 2606 reserves `.example`: no player can connect to these hosts.
        hosts = StreamHosts(
            publish=f"publish.{self._hub}.example",
            rtmp=f"live-rtmp.{self._hub}.example",
            hls=f"live-hls.{self._hub}.example",
            hdl=f"live-hdl.{self._hub}.example",
            snapshot=f"live-snapshot.{self._hub}.example",
            playback=f"playback.{self._hub}.example",
        )
        document = new_document(
            hub=self._hub,
            key=key,
            publish_key=publish_key,
            security="static",
            hosts=hosts,
            times=StreamTimes.created_at(self._clock(), lifetime=_STREAM_LIFETIME),
        )
        return Stream(document, play_urls(document))

    def exists(self, stream: StreamReference) -> bool:
        self._raise_failure()
        return stream.key not in self._deleted

    def disable(self, stream: StreamReference) -> None:
        self._raise_failure()
        self._disabled.append(stream.key)

    def live_publishers(self, streams: Sequence[StreamReference]) -> Mapping[str, str | None]:
        self._raise_failure()
        not_live_keys = {*self._offline, *self._disabled, *self._deleted}
        return {key: None for key, _ in streams if key not in not_live_keys}

    def publish_url(self, document: Mapping[str, Any]) -> str:
        return self._url_signer.url(document)

    def start_publishing(self, key: str) -> None:
        """Simulate that the host starts or resumes publishing."""
        if key in self._disabled or key in self._deleted:
            raise NoSuchStream(f"stream {key} is disabled or deleted")
        if key in self._offline:
            self._offline.remove(key)

    def stop_publishing(self, key: str) -> None:
        """Simulate that the host stops publishing."""
        self._offline.append(key)

    def drop_stream(self, key: str) -> None:
        """Simulate that the provider has deleted the stream."""
        self._deleted.append(key)

    def reject_calls(self) -> None:
        """Make the provider reject every call until `recover`."""
        self._failure = StreamFailed("the hub does not exist")

    def time_out(self) -> None:
        """Make every call fail immediately with a timeout error until `recover`."""
        self._failure = ProviderUnavailable("timeout: no response before the deadline")

    def recover(self) -> None:
        """Make all calls succeed again."""
        self._failure = None

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure
