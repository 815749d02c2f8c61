"""/nginx/hook: one's own media server asks who may publish and what may be watched."""

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.api.error_reasons import Reason
from livebackend.api.errors import NotACall
from livebackend.api.forms import Upload
from livebackend.api.request import Request, require_method

_TEXT_MAX, _NAME_MAX = 200, 64


@view_config(route_name="nginx")
def hook(request: Request) -> Response:
    """2xx lets in; anything else, an error of ours too, keeps out.

    Fields as nginx's RTMP module sends them: `call`, `app`, `name`, `clientid`, and those of the
    publish URL. `call=watch` is ours, in deploy/nginx-rtmp.conf.
    """
    _check_caller(request)
    fields = {name: _text(value) for name, value in request.params.items()}
    call, stream_key = fields.get("call"), fields.get("name", "")
    authorization = request.services.publish_authorization
    publisher = fields.get("clientid", "")[:_NAME_MAX]
    if call == "publish_done":
        authorization.gone(stream_key=stream_key, publisher=publisher)
        return Response(status=204)
    if call == "publish":
        is_allowed = authorization.admit(
            hub=fields.get("app", ""),
            stream_key=stream_key,
            publish_key=fields.get("key", ""),
            publisher=publisher,
        )
    else:
        is_allowed = call == "watch" and authorization.is_open(stream_key)
    if not is_allowed:
        raise NotACall(403, "stream", Reason.NOT_OPEN)
    return Response(status=204)


def _check_caller(request: Request) -> None:
    authorization = request.services.publish_authorization
    if not authorization.is_configured or not request.registry.peers.is_here(request):
        raise NotACall(404, "path", Reason.WRONG_PATH)
    require_method(request, "GET", "POST")
    if not authorization.is_media_server(_text(request.params.get("secret"))):
        raise NotACall(403, "secret", Reason.NOT_OURS)


def _text(value: str | Upload | None) -> str:
    """A field as text that fits into the database; an empty one for what does not."""
    if not isinstance(value, str) or len(value) > _TEXT_MAX or "\0" in value:
        return ""
    return value
