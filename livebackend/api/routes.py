"""Routes: the seven API paths, callbacks of providers, pictures, pages."""

from dataclasses import replace

from pyramid.config import Configurator

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.forms import RequestLimits
from livebackend.api.operation_declaration import Selectors
from livebackend.api.request import Request, require_method

PATHS = ("register", "upload", "log", "room", "list", "friend", "golden")
# The operator's media server requests this path before it accepts a publisher or viewer.
HOOK_PATH = "/nginx/hook"


class RequestValidator:
    """Route factory that rejects invalid requests before Pyramid selects a view.

    Raises InvalidRequest, in this order: 405 for a method other than POST, the errors of
    `Request.params`, and 400 for a request that selects two operations.
    """

    def __init__(self, request: Request) -> None:
        require_method(request, "POST")
        selectors: Selectors = request.registry.selectors[request.matched_route.name]
        selected_by_value = sum(request.params.get(name) == "1" for name in selectors.names)
        is_selected_by_presence = any(
            name in request.params for name in selectors.presence_selectors
        )
        if selected_by_value + is_selected_by_presence > 1:
            raise InvalidRequest(400, "form", ErrorReason.SEVERAL_SELECTORS)


def request_limits(default: RequestLimits) -> dict[str, RequestLimits]:
    """Return the limits by route: `default`, with query strings for callbacks."""
    # Providers call the callbacks with query strings. Their views authenticate the caller by a
    # signature or a secret, not by a login token.
    callback = replace(default, query_allowed=True)
    return dict.fromkeys(PATHS, default) | {"pili": callback, "nginx": callback}


def includeme(config: Configurator) -> None:
    for name in PATHS:
        config.add_route(name, f"/{name}", factory=RequestValidator)
    config.add_route("payment", "/payments")
    config.add_route("picture", "/pictures/{folder:[0-9a-f]{32}}/{name}")
    config.add_route("pili", "/pili/callback")
    config.add_route("nginx", HOOK_PATH)
    config.add_route("home", "/")
    config.add_route("page", r"/{page:openapi(?:-operations)?\.json|docs|demo|favicon\.ico}")
    config.add_route("static", "/static/{digest}/{subpath:.+}")
