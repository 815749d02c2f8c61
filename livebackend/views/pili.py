"""/pili/callback: Qiniu reports that a publisher connected or disconnected."""

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.parameter_types import has_control_character
from livebackend.api.request import Request, require_method


@view_config(route_name="pili")
def callback(request: Request) -> Response:
    """Verify a callback and refresh the stream status from Pili.

    A callback can be late or replayed, so only the current status from Pili counts.
    """
    require_method(request, "POST")
    is_signed = request.services.stream_callbacks.has_valid_signature(
        request.method, request.path_qs, headers=request.headers, body=request.body
    )
    if not is_signed:
        raise InvalidRequest(403, "signature", ErrorReason.INVALID_SIGNATURE)
    stream_key = request.params.get("title")
    if not isinstance(stream_key, str) or not stream_key:
        raise InvalidRequest(400, "title", ErrorReason.MISSING)
    if has_control_character(stream_key):
        raise InvalidRequest(400, "title", ErrorReason.CONTROL_CHARACTER)
    request.services.stream_callbacks.receive(stream_key)
    return Response(status=204)
