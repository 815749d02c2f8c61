"""/nginx/hook: one's own media server asks who may publish and what may be watched."""

import hmac

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.api.error_reasons import Reason
from livebackend.api.errors import NotACall
from livebackend.api.forms import Upload

_TEXT_MAX, _NAME_MAX = 200, 64


@view_config(route_name="nginx")
def hook(request):
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
    elif call == "publish" and fields.get("app") == request.services.settings.streams_hub:
        key = fields.get("key", "")
        _let(authorization.admit(stream_key=stream_key, publish_key=key, publisher=publisher))
    else:
        _let(call == "watch" and authorization.is_open(stream_key))
    return Response(status=204)


def _check_caller(request):
    secret = request.services.settings.streams_hook_secret.get_secret_value()
    if not secret or not request.registry.peers.is_here(request):
        raise NotACall(404, "path", Reason.WRONG_PATH)
    if request.method not in ("GET", "POST"):
        raise NotACall(405, "method", Reason.WRONG_METHOD)
    if not hmac.compare_digest(_text(request.params.get("secret")).encode(), secret.encode()):
        raise NotACall(403, "secret", Reason.NOT_OURS)


def _text(value: str | Upload | None) -> str:
    """A field as text that fits into the database; an empty one for what does not."""
    if not isinstance(value, str) or len(value) > _TEXT_MAX or "\0" in value:
        return ""
    return value


def _let(is_right):
    if not is_right:
        raise NotACall(403, "stream", Reason.NOT_OPEN)
