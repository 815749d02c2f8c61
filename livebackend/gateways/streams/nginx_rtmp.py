"""Stream gateway for nginx with its RTMP module.

deploy/nginx-rtmp.conf configures the media server. The media server authorizes publishers through
the API's hook /nginx/hook, which is not part of this module.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from livebackend.config.settings import Settings
from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.http_client import ProviderCallFailed, ProviderClient
from livebackend.gateways.streams.protocol import (
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

# The stream's JSON needs an expiry time, which nginx-rtmp does not have. 16 days is longer
# than any room stays open.
_STREAM_LIFETIME = timedelta(days=16)
# Maximum size of the statistics, which list every viewer.
_MAX_STAT_BYTES = 8_388_608


class _Publisher(NamedTuple):
    """A publisher in nginx-rtmp's statistics; `is_sending` is True after it sent data."""

    key: str
    connection_id: str
    is_sending: bool


class NginxRtmpStreams:
    """Stream gateway for an nginx-rtmp media server."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Create the gateway. Raises ValueError for a missing setting."""
        settings.require(
            *("streams.publish_host", "streams.rtmp_host", "streams.hls_host"),
            "streams.hook_secret",
        )
        return cls(
            ProviderClient(settings.streams_control_url, max_response_bytes=_MAX_STAT_BYTES),
            hub=settings.streams_hub,
            hosts=StreamHosts.from_settings(settings),
            clock=time.time,
        )

    def __init__(
        self, server: ProviderClient, *, hub: str, hosts: StreamHosts, clock: Callable[[], float]
    ) -> None:
        self._server = server
        self._hub = hub
        self._hosts = hosts
        self._clock = clock
        self._url_signer = PublishUrlSigner(clock, lifetime_s=0)

    def create(self, key: str, publish_key: str) -> Stream:
        # nginx-rtmp needs no request to create a stream. This request checks that the server is
        # reachable.
        self._publishers(Deadline())
        document = new_document(
            hub=self._hub,
            key=key,
            publish_key=publish_key,
            security="static",
            hosts=self._hosts,
            times=StreamTimes.created_at(self._clock(), lifetime=_STREAM_LIFETIME),
        )
        return Stream(document, play_urls(document))

    def exists(self, stream: StreamReference) -> bool:
        return True

    def disable(self, stream: StreamReference) -> None:
        # The room is already closed: if the host publishes again, nginx-rtmp's on_publish callback
        # to this application is answered with an error.
        deadline = Deadline()
        query = urlencode({"app": self._hub, "name": stream.key})
        dropped_count = self._get(f"/control/drop/publisher?{query}", deadline)
        if dropped_count.strip() == b"0" and any(
            publisher.key == stream.key for publisher in self._publishers(deadline)
        ):
            # After a reload of nginx, its new worker process cannot disconnect publishers that
            # are connected to the old one.
            raise StreamFailed(f"nginx-rtmp did not disconnect the publisher of {stream.key}")

    def live_publishers(self, streams: Sequence[StreamReference]) -> Mapping[str, str | None]:
        # A publisher that is connected but has sent no data is not live. The idle timeout of
        # nginx-rtmp does not disconnect this publisher.
        publisher_by_key = {
            publisher.key: publisher
            for publisher in self._publishers(Deadline())
            if publisher.is_sending
        }
        return {
            key: publisher_by_key[key].connection_id
            for key, _ in streams
            if key in publisher_by_key
        }

    def publish_url(self, document: Mapping[str, Any]) -> str:
        return self._url_signer.url(document)

    def _publishers(self, deadline: Deadline) -> list[_Publisher]:
        """Return all publishers of the RTMP application, which has the hub's name."""
        text = self._get("/stat", deadline)
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise StreamFailed("/stat did not return the statistics of nginx-rtmp")
        try:
            # XML without a document type declares no entities, so an entity attack is impossible.
            root = ET.fromstring(text)  # noqa: S314
        except ET.ParseError as error:
            raise StreamFailed(f"/stat returned malformed statistics: {error}") from None
        if root.tag != "rtmp":
            raise StreamFailed("/stat did not return the statistics of nginx-rtmp")
        return [
            _Publisher(
                stream.findtext("name", ""),
                client.findtext("id", ""),
                is_sending=client.find("active") is not None,
            )
            for application in root.iterfind("server/application")
            if application.findtext("name") == self._hub
            for stream in application.iterfind("live/stream")
            for client in stream.iterfind("client")
            if client.find("publishing") is not None
        ]

    def _get(self, path: str, deadline: Deadline) -> bytes:
        try:
            response = self._server.call("GET", path, deadline=deadline)
        except ProviderCallFailed as error:
            raise ProviderUnavailable(str(error)) from error
        if response.status >= 500:
            raise ProviderUnavailable(f"nginx-rtmp responded with HTTP status {response.status}")
        if response.status != 200:
            raise StreamFailed(f"nginx-rtmp responded with HTTP status {response.status}")
        return response.content
