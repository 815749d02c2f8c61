"""Streams of one's own media server: nginx with its RTMP module, as deploy/nginx-rtmp.conf has it.

Who may publish is asked of us, by a hook; this is the other direction.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from livebackend.config.settings import Settings
from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.http_client import Caller, CallFailed
from livebackend.gateways.streams.documents import Hosts, Times, new_document, play_urls
from livebackend.gateways.streams.protocol import ProviderAway, Stream, StreamFailed
from livebackend.gateways.streams.publishing import Publishing

log = logging.getLogger(__name__)

# A room ends long before: nothing of it is kept here.
_LIFETIME = timedelta(days=16)
# It lists every viewer.
_STAT_BYTES_MAX = 8_388_608


class _Publisher(NamedTuple):
    """A publisher as the server lists him: his stream's key, and his connection's number."""

    key: str
    name: str
    sends: bool


class NginxRtmpStreams:
    """A media server that asks us about each publisher, and is asked who is on air."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Raises ValueError for a setting that is missing."""
        settings.require(
            *("streams.publish_host", "streams.rtmp_host", "streams.hls_host"),
            "streams.hook_secret",
        )
        return cls(
            Caller(settings.streams_control_url, bytes_max=_STAT_BYTES_MAX),
            hub=settings.streams_hub,
            hosts=Hosts.from_settings(settings),
            clock=time.time,
        )

    def __init__(
        self, server: Caller, *, hub: str, hosts: Hosts, clock: Callable[[], float]
    ) -> None:
        self._server = server
        self._hub = hub
        self._hosts = hosts
        self._clock = clock
        self._publishing = Publishing(clock, lifetime_s=0)

    def create(self, key: str, publish_key: str) -> Stream:
        # There is nothing to make; but a server that is away takes no publisher.
        self._publishers(Deadline())
        document = new_document(
            hub=self._hub,
            key=key,
            publish_key=publish_key,
            security="static",
            hosts=self._hosts,
            times=Times.made_at(self._clock(), lifetime=_LIFETIME),
        )
        return Stream(document, play_urls(document))

    def knows(self, key: str) -> bool:
        return True

    def disable(self, key: str) -> None:
        # Who comes again is refused by the hook: his room is closed already.
        deadline = Deadline()
        query = urlencode({"app": self._hub, "name": key})
        dropped = self._ask(f"/control/drop/publisher?{query}", deadline)
        if dropped.strip() == b"0" and any(each.key == key for each in self._publishers(deadline)):
            # As after a reload: the new worker drops nobody of the old one's.
            raise StreamFailed(f"the server lists the publisher of {key}, and drops nobody")

    def on_air(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        # One who is connected and has sent no picture yet is not on air; the server, which drops
        # whoever falls silent, would keep him for ever.
        publishers = {each.key: each for each in self._publishers(Deadline()) if each.sends}
        return {key: publishers[key].name for key in keys if key in publishers}

    def publish_url(self, document: Mapping[str, Any]) -> str:
        return self._publishing.url(document)

    def _publishers(self, deadline: Deadline) -> list[_Publisher]:
        """Whoever publishes a stream of our hub, or is about to."""
        text = self._ask("/stat", deadline)
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise StreamFailed("the server's statistics are none of nginx's")
        try:
            # Without a document type there is nothing in it that could grow.
            root = ET.fromstring(text)  # noqa: S314
        except ET.ParseError as error:
            raise StreamFailed(f"the server's statistics can't be read: {error}") from None
        if root.tag != "rtmp":
            raise StreamFailed("the server's statistics are none of nginx's")
        return [
            _Publisher(
                stream.findtext("name", ""),
                client.findtext("id", ""),
                sends=client.find("active") is not None,
            )
            for application in root.iterfind("server/application")
            if application.findtext("name") == self._hub
            for stream in application.iterfind("live/stream")
            for client in stream.iterfind("client")
            if client.find("publishing") is not None
        ]

    def _ask(self, path: str, deadline: Deadline) -> bytes:
        try:
            answer = self._server.call("GET", path, deadline=deadline)
        except CallFailed as error:
            raise ProviderAway(str(error)) from error
        if answer.status >= 500:
            raise ProviderAway(f"the server answers {answer.status}")
        if answer.status != 200:
            raise StreamFailed(f"the server answers {answer.status}")
        return answer.content
