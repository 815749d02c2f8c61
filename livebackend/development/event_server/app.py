"""The HTTP interface of the event server: event streams, and the publishing side of Nchan."""

import hmac
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from livebackend.development.event_server.channels import (
    Channels,
    ServerFull,
    TooManyStreams,
)
from livebackend.development.event_server.options import EventServerOptions
from livebackend.development.event_server.stream import EventStream
from livebackend.gateways.events.engine_status import status_lines
from livebackend.gateways.events.event_stream import STREAM_PATH_PREFIX, EventId
from livebackend.gateways.events.protocol import (
    MAX_EVENT_BYTES,
    InvalidEvent,
    PublishedEvent,
    check_channel,
    check_event,
)
from livebackend.gateways.http_client import ProviderCallFailed, ProviderClient, ProviderResponse

# Headers that the application's check of a ticket gets from the client or from the proxy of this
# machine, and those of its response that the client gets.
_REQUEST_HEADERS = ("Last-Event-ID",)
_PROXY_HEADERS = ("X-Forwarded-For", "X-Forwarded-Proto")
_RESPONSE_HEADERS = (
    *("Content-Type", "Cache-Control", "Retry-After", "Referrer-Policy"),
    *("X-Error", "X-Request-Id"),
)
_REFUSAL_HEADERS = {"Retry-After": "10", "Access-Control-Allow-Origin": "*"}


class EventServerApp:
    """Checks tickets by requests to the application, as nginx does, and serves the streams."""

    def __init__(self, options: EventServerOptions) -> None:
        self._options = options
        self._channels = Channels(options)
        self._application = ProviderClient(options.app_url)
        self._authorization = f"Bearer {options.secret}".encode()
        self.asgi: ASGIApp = Starlette(
            routes=[
                Route("/events", self._open_stream, methods=["GET"]),
                Route("/pub/{channel}", self._publish, methods=["POST"]),
                Route("/pub/{channel}", self._close, methods=["DELETE"]),
                Route("/pub/{channel}", self._count, methods=["GET"]),
                Route("/stat", self._status, methods=["GET"]),
            ]
        )

    async def _open_stream(self, request: Request) -> "Response | EventStream":
        if request.method == "HEAD":
            return Response(status_code=405)
        try:
            check = await run_in_threadpool(self._check, request)
        except ProviderCallFailed:
            return _unavailable()
        location = check.headers.get("X-Accel-Redirect")
        if location is None:
            return _forwarded_response(check)
        parts = urlsplit(location)
        channels = parts.path.removeprefix(STREAM_PATH_PREFIX).split(",")
        after = EventId.parse(parse_qs(parts.query).get("last", [""])[0])
        try:
            subscription = self._channels.subscribe(
                channels, address=_client_address(request), after=after
            )
        except TooManyStreams:
            return _too_many_streams()
        except ServerFull:
            return _unavailable()
        return EventStream(self._channels, subscription, self._options)

    def _check(self, request: Request) -> ProviderResponse:
        query = request.scope["query_string"].decode("latin-1")
        names = [*_REQUEST_HEADERS, *(_PROXY_HEADERS if _is_from_proxy(request) else ())]
        headers = {name: request.headers[name] for name in names if name in request.headers}
        return self._application.call("GET", f"/events?{query}", headers=headers)

    async def _publish(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return Response(status_code=403)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_EVENT_BYTES:
                return Response(status_code=413)
        event = PublishedEvent(request.headers.get("X-EventSource-Event", ""), bytes(body))
        channel = request.path_params["channel"]
        try:
            check_channel(channel)
            check_event(event)
        except InvalidEvent:
            return Response(status_code=400)
        return Response(status_code=201 if self._channels.publish(channel, event) else 202)

    async def _close(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return Response(status_code=403)
        had_subscribers = self._channels.close(request.path_params["channel"])
        return Response(status_code=200 if had_subscribers else 404)

    async def _count(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return Response(status_code=403)
        return JSONResponse({"subscribers": self._channels.count(request.path_params["channel"])})

    async def _status(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return Response(status_code=403)
        return Response(status_lines(self._channels.status()), media_type="text/plain")

    def _is_authorized(self, request: Request) -> bool:
        authorization = request.headers.get("Authorization", "").encode("latin-1")
        return hmac.compare_digest(authorization, self._authorization)


def _is_from_proxy(request: Request) -> bool:
    """Return whether a process of this machine sent the request, such as a proxy.

    A client on another machine could forge the address in the headers.
    """
    return request.client is not None and ip_address(request.client.host).is_loopback


def _client_address(request: Request) -> str:
    """Return the address that the nearest proxy has added, or the client's own."""
    forwarded_for = request.headers.get("X-Forwarded-For", "") if _is_from_proxy(request) else ""
    return forwarded_for.rpartition(",")[2].strip() or (
        request.client.host if request.client else ""
    )


def _forwarded_response(response: ProviderResponse) -> Response:
    headers = {
        name: response.headers[name] for name in _RESPONSE_HEADERS if name in response.headers
    }
    headers["Access-Control-Allow-Origin"] = "*"
    return Response(response.content, response.status, headers)


def _too_many_streams() -> Response:
    """Return the response of nginx-site.conf over its limits."""
    headers = {**_REFUSAL_HEADERS, "X-Error": "request; reason=too_many_streams"}
    return Response(status_code=429, headers=headers)


def _unavailable() -> Response:
    return Response(status_code=503, headers=_REFUSAL_HEADERS)
