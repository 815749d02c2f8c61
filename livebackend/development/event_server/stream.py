"""The response that sends the events of a subscription until one side ends it."""

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope, Send

from livebackend.development.event_server.channels import Channels, Subscription
from livebackend.development.event_server.options import EventServerOptions
from livebackend.gateways.events.event_stream import MEDIA_TYPE

_HEADERS = [
    (b"content-type", MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store"),
    # A browser must not send the URL, which has a ticket, with its next request.
    (b"referrer-policy", b"no-referrer"),
    # The ticket in the URL authorizes the client, not a cookie of the browser.
    (b"access-control-allow-origin", b"*"),
    # An nginx in front of this server must not collect the events in a buffer.
    (b"x-accel-buffering", b"no"),
]
_PING = b": ping\n\n"


class EventStream:
    """An event stream as an ASGI application.

    A client that receives too slowly is disconnected: this class limits the events that wait, and
    the kernel limits the time (`listening_socket`).
    """

    def __init__(
        self, channels: Channels, subscription: Subscription, options: EventServerOptions
    ) -> None:
        self._channels = channels
        self._subscription = subscription
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timer = asyncio.get_running_loop().call_later(
            self._options.max_connection_s, self._subscription.end
        )
        tasks = [
            asyncio.create_task(self._send_events(send)),
            asyncio.create_task(_wait_for_disconnect(receive)),
            asyncio.create_task(self._subscription.is_too_slow.wait()),
        ]
        try:
            # If the response is incomplete, uvicorn closes the connection.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            self._channels.unsubscribe(self._subscription)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_events(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        async for lines in self._lines():
            # This call waits while 64 KiB of the connection's data are waiting.
            await send({"type": "http.response.body", "body": lines, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _lines(self) -> AsyncIterator[bytes]:
        # The client learns at once that the connection is open.
        yield _PING
        for missed_lines in self._subscription.missed:
            yield missed_lines
        while True:
            try:
                async with asyncio.timeout(self._options.ping_interval_s):
                    lines = await self._subscription.next_lines()
            except TimeoutError:
                yield _PING
                continue
            if lines is None:
                return
            yield lines


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
