"""The stream JSON of the API document, and play URLs derived from the JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Self

from livebackend.config.settings import Settings

_DEFAULT_ZONE = "z1"
_CHINA_TIME = timezone(timedelta(hours=8))


@dataclass(frozen=True)
class StreamHosts:
    """The domains of a hub, each with an optional port; a missing domain is empty."""

    publish: str
    rtmp: str
    hls: str
    hdl: str = ""
    snapshot: str = ""
    playback: str = ""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            publish=settings.streams_publish_host,
            rtmp=settings.streams_rtmp_host,
            hls=settings.streams_hls_host,
            hdl=settings.streams_hdl_host,
            snapshot=settings.streams_snapshot_host,
            playback=settings.streams_playback_host,
        )

    def document(self) -> dict[str, dict[str, str]]:
        return {
            "publish": {"rtmp": self.publish},
            "live": {
                "rtmp": self.rtmp,
                "hls": self.hls,
                "http": self.hls,
                "hdl": self.hdl,
                "snapshot": self.snapshot,
            },
            "play": {"rtmp": self.rtmp, "http": self.hls},
            "playback": {"hls": self.playback, "http": self.playback},
        }


@dataclass(frozen=True)
class StreamTimes:
    """When a stream was created and last updated, and when it expires."""

    created: datetime
    updated: datetime
    expire: datetime

    @classmethod
    def created_at(cls, moment: float, *, lifetime: timedelta) -> Self:
        """Return the times of a stream that is created at `moment` (seconds since 1970)."""
        created = datetime.fromtimestamp(moment, UTC)
        return cls(created, created, created + lifetime)


def new_document(
    *, hub: str, key: str, publish_key: str, security: str, hosts: StreamHosts, times: StreamTimes
) -> dict[str, Any]:
    """Return the JSON of a new stream."""
    return {
        "id": default_stream_id(hub, key),
        "hub": hub,
        "title": key,
        "publishKey": publish_key,
        "publishSecurity": security,
        "nonce": 0,
        "disabled": False,
        "disabledTill": 0,
        "nropEnable": None,
        "createdAt": times.created.astimezone(_CHINA_TIME).isoformat(timespec="milliseconds"),
        "updatedAt": times.updated.astimezone(_CHINA_TIME).isoformat(timespec="milliseconds"),
        "expireAt": times.expire.astimezone(_CHINA_TIME).isoformat(timespec="microseconds"),
        "hosts": hosts.document(),
    }


def default_stream_id(hub: str, key: str) -> str:
    """Return the id of a stream in the zone of most hubs."""
    return f"{_DEFAULT_ZONE}.{hub}.{key}"


def play_urls(document: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the play URL of each protocol; None if the protocol has no domain.

    Source: Pili API v1, the stream's `hosts`. The app derives the same URLs from `hosts`.
    """
    live_hosts, path = document["hosts"]["live"], f"/{document['hub']}/{document['title']}"

    def url(scheme: str, host_key: str, suffix: str) -> str | None:
        host = live_hosts.get(host_key)
        return f"{scheme}://{host}{path}{suffix}" if host else None

    return {
        "rtmp": url("rtmp", "rtmp", ""),
        "hls": url("http", "hls", ".m3u8"),
        "hdl": url("http", "hdl", ".flv"),
    }
