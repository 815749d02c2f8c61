"""/nginx/hook: the operator's media server checks publishers and viewers."""

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.forms import Upload
from livebackend.api.request import Request, require_method

_MAX_FIELD_LENGTH, _MAX_PUBLISHER_LENGTH = 200, 64


@view_config(route_name="nginx")
def hook(request: Request) -> Response:
    """Respond with 2xx to allow publishing or watching; any other status denies it.

    nginx's RTMP module sends `call`, `app`, `name`, `clientid` and the parameters of the publish
    URL. For a viewer, deploy/nginx-rtmp.conf sends `call=watch`.
    """
    _check_caller(request)
    fields = {name: _valid_text(value) for name, value in request.params.items()}
    hook_call, stream_key = fields.get("call"), fields.get("name", "")
    authorization = request.services.publish_authorization
    publisher = fields.get("clientid", "")[:_MAX_PUBLISHER_LENGTH]
    if hook_call == "publish_done":
        authorization.publisher_left(stream_key=stream_key, publisher=publisher)
        return Response(status=204)
    if hook_call == "publish":
        is_allowed = authorization.authorize_publish(
            hub=fields.get("app", ""),
            stream_key=stream_key,
            publish_key=fields.get("key", ""),
            publisher=publisher,
        )
    else:
        is_allowed = hook_call == "watch" and authorization.may_watch(stream_key)
    if not is_allowed:
        raise InvalidRequest(403, "stream", ErrorReason.ROOM_NOT_OPEN)
    return Response(status=204)


def _check_caller(request: Request) -> None:
    authorization = request.services.publish_authorization
    if not authorization.is_configured or not request.registry.client_address_resolver.is_local(
        request
    ):
        raise InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH)
    require_method(request, "GET", "POST")
    if not authorization.is_media_server(_valid_text(request.params.get("secret"))):
        raise InvalidRequest(403, "secret", ErrorReason.INVALID_SECRET)


def _valid_text(value: str | Upload | None) -> str:
    """Return a value if the database can store it as text, otherwise ""."""
    if not isinstance(value, str) or len(value) > _MAX_FIELD_LENGTH or "\0" in value:
        return ""
    return value
