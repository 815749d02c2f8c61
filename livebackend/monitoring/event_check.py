"""The check of live events: an event is published, and arrives in an event stream."""

import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

import orjson
import requests

from livebackend.gateways.events.event_stream import MEDIA_TYPE
from livebackend.gateways.events.protocol import (
    ChannelEvent,
    EventEngine,
    EventsFailed,
    PublishedEvent,
    WrongSecret,
)
from livebackend.monitoring.health_checks import CheckFailed

_TIMEOUT_S = 4
# No user has this channel, and nothing is numbered or stored for it.
_CHANNEL = "user.0"
_REJECTED_REMEDY = "Set events.publish_secret to the secret in nginx-events.conf, and restart."
_ENGINE_REMEDY = (
    "Check that nginx runs with nginx-events.conf, its error log, and events.publish_url. Events"
    " wait in the database meanwhile. With several machines, check Redis."
)
_STREAM_REMEDY = (
    "Check that the URL leads to nginx with nginx-site.conf or to the event server, with"
    " events.public_url, and that this machine can connect to it."
)
_DELIVERY_REMEDY = (
    "The URL leads to another engine than events.publish_url: correct one of them. With several"
    " machines, all of them need the same Redis server in nginx-events.conf."
)


class EventCheck(NamedTuple):
    """Subscribes to a channel that no user has, and publishes an event to it."""

    engine: EventEngine
    # Whether livebackend starts the engine, which therefore runs only while livebackend runs.
    is_child_process: bool
    # Returns the URL of a stream of the channel, with a ticket.
    stream_url: Callable[[], str]

    def run(self) -> str:
        """Return a message about the engine. Raises CheckFailed."""
        try:
            self.engine.subscribers(_CHANNEL)
        except WrongSecret as error:
            raise CheckFailed(
                f"the event engine rejects the secret: {error}", remedy=_REJECTED_REMEDY
            ) from None
        except EventsFailed as error:
            if self.is_child_process:
                return f"not checked: the event server runs while livebackend runs: {error}"
            raise _engine_failed(error) from None
        url = self.stream_url()
        self._check_stream(url, public_url=url.partition("?")[0])  # a ticket must not be printed
        return "an event has reached a client of the event stream"

    def _check_stream(self, url: str, *, public_url: str) -> None:
        try:
            with requests.get(
                url,
                headers={"Accept": MEDIA_TYPE},
                timeout=_TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            ) as response:
                _check_response(response, public_url)
                is_received = _contains(response, self._publish())
        except requests.RequestException as error:
            raise CheckFailed(
                f"{public_url} cannot be reached from this machine: {type(error).__name__}",
                remedy=_STREAM_REMEDY,
            ) from None
        if not is_received:
            raise CheckFailed(
                f"an event that was published did not arrive at {public_url}",
                remedy=_DELIVERY_REMEDY,
            )

    def _publish(self) -> bytes:
        """Publish an event; return a text that only this event contains."""
        token = secrets.token_hex(8)
        event = {"type": "probe", "channel": _CHANNEL, "data": token}
        try:
            self.engine.publish(
                [ChannelEvent(_CHANNEL, PublishedEvent("probe", orjson.dumps(event)))]
            )
        except EventsFailed as error:
            raise _engine_failed(error) from None
        return token.encode()


def _engine_failed(error: EventsFailed) -> CheckFailed:
    return CheckFailed(f"the event engine does not accept events: {error}", remedy=_ENGINE_REMEDY)


def _check_response(response: requests.Response, url: str) -> None:
    if response.status_code != 200:
        reason = response.headers.get("X-Error", "")
        raise CheckFailed(
            f"{url} responded with HTTP status {response.status_code} {reason}".rstrip(),
            remedy=_STREAM_REMEDY,
        )
    if "X-Accel-Redirect" in response.headers:
        raise CheckFailed(f"{url} leads to no event engine", remedy=_STREAM_REMEDY)


def _contains(response: requests.Response, token: bytes) -> bool:
    """Return whether a stream contains the token before a pause or a total of 4 s."""
    end = time.monotonic() + _TIMEOUT_S
    received = bytearray()
    try:
        # A chunk of one byte: a larger one would wait until it is full.
        for chunk in response.iter_content(chunk_size=1):
            received += chunk
            if received.endswith(token):
                return True
            if time.monotonic() > end:
                return False
    except requests.RequestException:  # nothing was received in time, or the stream was cut
        pass
    return False
