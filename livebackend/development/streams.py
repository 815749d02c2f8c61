"""Streams that are made up: nothing is published, nothing can be watched."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from time import time
from typing import Any, Self

from livebackend.config.settings import Settings
from livebackend.gateways.streams.documents import Hosts, Times, new_document, play_urls
from livebackend.gateways.streams.protocol import NoSuchStream, ProviderAway, Stream, StreamFailed
from livebackend.gateways.streams.publishing import Publishing

_LIFETIME = timedelta(days=16)
_REMEMBERED_MAX = 1000


class DevelopmentStreams:
    """Makes up streams of a hub that does not exist: every call gives the same for the same.

    A stream is on air from the moment that it is made, as if its broadcaster had published at
    once, until it is disabled or told to hang up.
    """

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(hub=settings.streams_hub, clock=time)

    def __init__(self, *, hub: str, clock: Callable[[], float]) -> None:
        self._hub = hub
        self._clock = clock
        self._publishing = Publishing(clock, lifetime_s=3600)
        # The newest of those that are not as all others are: a restart forgets them.
        self._silent: deque[str] = deque(maxlen=_REMEMBERED_MAX)
        self._disabled: deque[str] = deque(maxlen=_REMEMBERED_MAX)
        self._forgotten: deque[str] = deque(maxlen=_REMEMBERED_MAX)
        self._failure: StreamFailed | None = None

    def create(self, key: str, publish_key: str) -> Stream:
        self._answer()
        if key in self._forgotten:
            self._forgotten.remove(key)
        # RFC 2606 reserves `.example`: no player ever reaches anybody by these names.
        hosts = Hosts(
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
            times=Times.made_at(self._clock(), lifetime=_LIFETIME),
        )
        return Stream(document, play_urls(document))

    def knows(self, key: str) -> bool:
        self._answer()
        return key not in self._forgotten

    def disable(self, key: str) -> None:
        self._answer()
        self._disabled.append(key)

    def on_air(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        self._answer()
        off = {*self._silent, *self._disabled, *self._forgotten}
        return {key: None for key in keys if key not in off}

    def publish_url(self, document: Mapping[str, Any]) -> str:
        return self._publishing.url(document)

    # What it can be told.

    def go_live(self, key: str) -> None:
        """The broadcaster publishes, again or at last."""
        if key in self._disabled or key in self._forgotten:
            raise NoSuchStream(f"{key} takes no publisher")
        if key in self._silent:
            self._silent.remove(key)

    def hang_up(self, key: str) -> None:
        """The broadcaster stops publishing."""
        self._silent.append(key)

    def forget(self, key: str) -> None:
        """The stream is no more."""
        self._forgotten.append(key)

    def fail(self) -> None:
        """Every call is refused from now on."""
        self._failure = StreamFailed("the hub is gone")

    def time_out(self) -> None:
        """No call is answered from now on, and none is waited for."""
        self._failure = ProviderAway("timeout: no answer in time")

    def recover(self) -> None:
        """Every call is answered from now on."""
        self._failure = None

    def _answer(self) -> None:
        if self._failure:
            raise self._failure
