"""/events: tickets for the stream of live events, and the check of each connection."""

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.api.base_view import View
from livebackend.api.docs_sections import DocsSection
from livebackend.api.error_reasons import ErrorDetail, ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.operation_declaration import operation
from livebackend.api.parameters import AuthenticatedParameters
from livebackend.api.request import Request, require_method
from livebackend.api.response_types import EventTicket
from livebackend.api.responses import OperationResponse, error_response, render, success
from livebackend.api.result_codes import ResultCode
from livebackend.api.serializers import serialize_stream_url
from livebackend.core.errors import RateLimited
from livebackend.services.event_streams import EventStreams

_MEDIA_TYPE = "text/event-stream"


class EventViews(View):
    route = "events"
    docs_section = DocsSection.EVENTS

    @operation(
        "ticket",
        parameters=AuthenticatedParameters,
        default_error=ResultCode.BAD_REQUEST,
        rate_limits=["event_tickets"],
        documented=False,
        idempotent=True,
        message_type=EventTicket,
    )
    def event_ticket(self, params: AuthenticatedParameters) -> OperationResponse:
        """Get a ticket for live events · 获取事件流票据

        Returns the URL of the user's event stream, which opens connections for 60 s, and the
        number of the last event. A connection lasts up to 10 minutes. Servers without live
        events respond with 404.

        返回本人事件流的 URL 及最近事件的编号；URL 在 60 秒内可用于建立连接，
        每个连接最长持续 10 分钟。未启用实时事件的服务器返回 404。
        """
        stream_url = _event_streams(self.request).issue_url(self.request.db, self.request.claims)
        return success(serialize_stream_url(stream_url))


@view_config(route_name="event_stream")
def open_stream(request: Request) -> Response:
    """Check a new connection for the event engine, which sends this request.

    The header X-Accel-Redirect names the channels. A client with an invalid ticket (403) needs a
    new one. A client whose login token is revoked (204) must not connect again. A client whose
    account has opened too many connections (429) must wait.
    """
    streams = _event_streams(request)
    count_connection = request.services.metrics.count_event_connection
    require_method(request, "GET")
    ticket = streams.read_ticket(request.params.get("ticket"))
    if ticket is None:
        count_connection("invalid_ticket")
        raise InvalidRequest(403, "ticket", ErrorReason.INVALID_TICKET)
    request.account_id = ticket.account_id
    try:
        has_access = streams.has_access(ticket)
    except RateLimited as error:
        count_connection("rate_limited")
        return _rate_limited(error)
    if not has_access:
        count_connection("revoked")
        return Response(status=204)
    last_event_id = request.headers.get("Last-Event-ID") or str(request.params.get("last", ""))
    location = streams.location(ticket, last_event_id)
    count_connection("accepted" if location else "reset")
    if location is None:
        response = Response(streams.reset_stream(), content_type=_MEDIA_TYPE)
    else:
        response = Response(content_type=_MEDIA_TYPE)
        response.headers["X-Accel-Redirect"] = location
    response.headers["Cache-Control"] = "no-store"
    return response


def _rate_limited(error: RateLimited) -> Response:
    detail = ErrorDetail("request", ErrorReason.RATE_LIMITED)
    response = render(error_response(ResultCode.INVALID_REQUEST, detail), status=429)
    response.retry_after = error.retry_after_s
    return response


def _event_streams(request: Request) -> EventStreams:
    streams = request.services.event_streams
    if streams is None:
        raise InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH)
    return streams
