"""An event engine that accepts events by HTTP, in the format of Nchan."""

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from types import MappingProxyType
from urllib.parse import urlsplit

import orjson

from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.events.engine_status import parse_status
from livebackend.gateways.events.protocol import (
    CALL_TIMEOUT_S,
    ChannelEvent,
    EngineStatus,
    EventsFailed,
    InvalidEvent,
    PublishedEvent,
    check_channel,
    check_event,
    status_error,
)
from livebackend.gateways.events.publish_connections import ChannelRequest, PublishConnections
from livebackend.gateways.http_client import (
    ProviderCallFailed,
    ProviderClient,
    ProviderResponse,
)

# A failed call costs little: events wait in the database while the engine is unavailable. With the
# default of the circuit breaker, they would wait for 10 s after a restart of the engine.
_OPEN_DURATION_S = 0.5
# 201: the channel has subscribers; 202: it has none.
_PUBLISHED_STATUSES = (201, 202)


class HttpEventEngine:
    """Publishes to the path `/pub/<channel>` of a private HTTP server, with a shared secret."""

    def __init__(self, url: str, secret: str) -> None:
        self._server = ProviderClient(url, open_duration_s=_OPEN_DURATION_S)
        self._publish_connections = PublishConnections(url)
        self._authorization = {"Authorization": f"Bearer {secret}"}
        parts = urlsplit(url)
        self._path = f"{parts.path.rstrip('/')}/pub/"
        self._publish_headers = (
            f" HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {secret}\r\n"
            "Content-Type: application/json\r\n"
        )

    def publish(self, events: Sequence[ChannelEvent]) -> Sequence[ChannelEvent]:
        requests: list[ChannelRequest] = []
        for channel, event in events:
            try:
                check_channel(channel)
                check_event(event)
            except InvalidEvent:
                if not requests:
                    raise
                break
            requests.append(ChannelRequest(channel, self._publish_request(channel, event)))
        statuses = self._publish_connections.send(requests, Deadline(CALL_TIMEOUT_S))
        rest = _unconfirmed(events, statuses)
        if events and len(rest) == len(events):
            raise status_error(next(filter(None, statuses)))
        return rest

    def close_channel(self, channel: str) -> None:
        self._call_channel("DELETE", channel, {200, 404})

    def subscribers(self, channel: str) -> int:
        headers = {"Accept": "application/json"}
        response = self._call_channel("GET", channel, {200, 404}, headers=headers)
        if response.status == 404:
            return 0
        try:
            return int(orjson.loads(response.content)["subscribers"])
        except (ValueError, KeyError, TypeError):
            raise EventsFailed("the engine returned a malformed count of subscribers") from None

    def status(self) -> EngineStatus:
        response = self._call("GET", "/stat", {200})
        try:
            return parse_status(response.content)
        except ValueError:
            raise EventsFailed("the engine returned a malformed status") from None

    def _publish_request(self, channel: str, event: PublishedEvent) -> bytes:
        # No value contains a line break: `check_channel` and `check_event` allow none.
        headers = (
            f"POST {self._path}{channel}{self._publish_headers}"
            f"X-EventSource-Event: {event.type}\r\nContent-Length: {len(event.body)}\r\n\r\n"
        )
        return headers.encode() + event.body

    def _call_channel(
        self,
        method: str,
        channel: str,
        accepted_statuses: Collection[int],
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> ProviderResponse:
        check_channel(channel)
        return self._call(method, f"/pub/{channel}", accepted_statuses, headers=headers)

    def _call(
        self,
        method: str,
        path: str,
        accepted_statuses: Collection[int],
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> ProviderResponse:
        try:
            response = self._server.call(
                method,
                path,
                headers={**self._authorization, **headers},
                deadline=Deadline(CALL_TIMEOUT_S),
            )
        except ProviderCallFailed as error:
            raise EventsFailed(str(error)) from error
        if response.status not in accepted_statuses:
            raise status_error(response.status)
        return response


def _unconfirmed(
    events: Sequence[ChannelEvent], statuses: Sequence[int | None]
) -> list[ChannelEvent]:
    """Return the events that must be sent again, so that each channel has all in order."""
    rest: list[ChannelEvent] = []
    channels = set()
    for event, status in zip_longest(events, statuses):
        if event.channel in channels or status not in _PUBLISHED_STATUSES:
            channels.add(event.channel)
            rest.append(event)
    return rest
