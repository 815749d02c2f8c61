"""/pili/callback: Qiniu reports that a publisher connected or disconnected."""

from io import BytesIO

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.request import Request, require_method


@view_config(route_name="pili")
def callback(request: Request) -> Response:
    """Verify a callback and refresh the stream status from Pili.

    A callback can be late or replayed, so only the current status from Pili counts.
    """
    require_method(request, "POST")
    body = _read_body(request)
    is_signed = request.services.stream_callbacks.has_valid_signature(
        request.method, request.path_qs, headers=request.headers, body=body
    )
    if not is_signed:
        raise InvalidRequest(403, "signature", ErrorReason.INVALID_SIGNATURE)
    stream_key = request.params.get("title")
    if not isinstance(stream_key, str) or not stream_key:
        raise InvalidRequest(400, "title", ErrorReason.MISSING)
    request.services.stream_callbacks.receive(stream_key)
    return Response(status=204)


def _read_body(request: Request) -> bytes:
    """Return the request body, and rewind the body for the form parser."""
    request_limits = request.registry.request_limits["pili"]
    if (request.content_length or 0) > request_limits.max_body_bytes:
        raise InvalidRequest(413, "body", ErrorReason.TOO_LARGE, max=request_limits.max_body_bytes)
    body: bytes = request.body_file.read()
    request.environ["wsgi.input"] = BytesIO(body)
    return body
