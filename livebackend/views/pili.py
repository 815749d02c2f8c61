"""/pili/callback: Qiniu tells that a broadcaster came or went."""

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.results import NotACall, Reason


@view_config(route_name="pili")
def callback(request):
    """A hint, signed by Qiniu. It may be late, or replayed: what counts is what Pili says now."""
    if request.method != "POST":
        raise NotACall(405, "method", Reason.WRONG_METHOD)
    # The form first: reading it bounds the body.
    stream_key = request.params.get("title")
    genuine = request.house.callbacks.is_genuine(
        request.method, request.path_qs, headers=request.headers, body=request.body
    )
    if not genuine:
        raise NotACall(403, "signature", Reason.NOT_OURS)
    if not isinstance(stream_key, str) or not stream_key:
        raise NotACall(400, "title", Reason.MISSING)
    request.house.streams.look_at(stream_key)
    return Response(status=204)
