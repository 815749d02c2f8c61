"""/pili/callback: Qiniu reports that a publisher connected or disconnected."""

from io import BytesIO

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.api.error_reasons import Reason
from livebackend.api.errors import NotACall
from livebackend.api.request import Request, require_method


@view_config(route_name="pili")
def callback(request: Request) -> Response:
    """Verify a callback and refresh the stream status from Pili.

    A callback can be late or replayed, so only the current status from Pili counts.
    """
    require_method(request, "POST")
    body = _body(request)
    is_genuine = request.services.stream_callbacks.is_genuine(
        request.method, request.path_qs, headers=request.headers, body=body
    )
    if not is_genuine:
        raise NotACall(403, "signature", Reason.NOT_OURS)
    stream_key = request.params.get("title")
    if not isinstance(stream_key, str) or not stream_key:
        raise NotACall(400, "title", Reason.MISSING)
    request.services.stream_callbacks.receive(stream_key)
    return Response(status=204)


def _body(request: Request) -> bytes:
    """Return the body, and reset the stream for the form parser."""
    bounds = request.registry.bounds["pili"]
    if (request.content_length or 0) > bounds.body_bytes_max:
        raise NotACall(413, "body", Reason.TOO_LARGE)
    body: bytes = request.body_file.read()
    request.environ["wsgi.input"] = BytesIO(body)
    return body
