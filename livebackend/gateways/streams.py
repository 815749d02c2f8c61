"""Streams: what a provider promises, and one that makes them up."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Protocol, Self, runtime_checkable

from livebackend.settings import Settings

_CHINA = timezone(timedelta(hours=8))
_LIFETIME = timedelta(days=16)


class StreamFailed(Exception):
    """The provider refused, answered nonsense, or did not answer in time."""


@dataclass(frozen=True)
class Stream:
    """A stream as the broadcaster's app reads it, and the URLs where others watch.

    `document` has every key of the API document's example, `publishKey` among them.
    `play_urls` has "rtmp", "hls" and "hdl".
    """

    document: dict[str, Any]
    play_urls: dict[str, str | None]


@runtime_checkable
class StreamGateway(Protocol):
    def create(self, key: str, publish_key: str) -> Stream:
        """Makes a stream that takes a publisher with this key, within 4 s; or StreamFailed."""

    def disable(self, key: str) -> None:
        """Cuts the stream's publisher off for good, within 4 s; or StreamFailed."""


class EmbeddedStreams:
    """Makes up streams of a hub that does not exist: every call gives the same for the same."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(hub=settings.streams_hub, clock=time.time)

    def __init__(self, *, hub: str, clock: Callable[[], float]) -> None:
        self._hub = hub
        self._clock = clock

    def create(self, key: str, publish_key: str) -> Stream:
        created = datetime.fromtimestamp(self._clock(), UTC).astimezone(_CHINA)
        document = {
            "id": f"z1.{self._hub}.{key}",
            "hub": self._hub,
            "title": key,
            "publishKey": publish_key,
            "publishSecurity": "static",
            "nonce": 0,
            "disabled": False,
            "disabledTill": 0,
            "nropEnable": None,
            "createdAt": created.isoformat(timespec="milliseconds"),
            "updatedAt": created.isoformat(timespec="milliseconds"),
            "expireAt": (created + _LIFETIME).isoformat(timespec="microseconds"),
            "hosts": self._hosts(),
        }
        return Stream(document, play_urls(document))

    def disable(self, key: str) -> None:
        pass

    def _hosts(self) -> dict[str, dict[str, str]]:
        # RFC 2606 reserves `.example`: no player ever reaches anybody by these names.
        rtmp, hls = f"live-rtmp.{self._hub}.example", f"live-hls.{self._hub}.example"
        playback = f"playback.{self._hub}.example"
        return {
            "publish": {"rtmp": f"publish.{self._hub}.example"},
            "live": {
                "rtmp": rtmp,
                "hls": hls,
                "http": hls,
                "hdl": f"live-hdl.{self._hub}.example",
                "snapshot": f"live-snapshot.{self._hub}.example",
            },
            "play": {"rtmp": rtmp, "http": hls},
            "playback": {"hls": playback, "http": playback},
        }


def play_urls(document: dict[str, Any]) -> dict[str, str | None]:
    """Where a stream is watched, by protocol; None for a protocol that has no host.

    Source: Pili API v1, the stream's `hosts`; the app derives the same URLs from them.
    """
    live, path = document["hosts"]["live"], f"/{document['hub']}/{document['title']}"

    def url(scheme: str, host: str, ending: str) -> str | None:
        return f"{scheme}://{live[host]}{path}{ending}" if live.get(host) else None

    return {
        "rtmp": url("rtmp", "rtmp", ""),
        "hls": url("http", "hls", ".m3u8"),
        "hdl": url("http", "hdl", ".flv"),
    }
