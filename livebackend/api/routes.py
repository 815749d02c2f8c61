"""Routes: the API paths, event streams, callbacks of providers, pictures, pages."""

from dataclasses import replace

from pyramid.config import Configurator

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.forms import RequestLimits
from livebackend.api.operation_declaration import Selectors
from livebackend.api.request import Request, require_method

PATHS = ("register", "upload", "log", "room", "list", "friend", "golden", "events")
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


class EventRequestValidator(RequestValidator):
    """The same for live events: the path does not exist if they are disabled."""

    def __init__(self, request: Request) -> None:
        if request.services.event_streams is None:
            raise InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH)
        super().__init__(request)


def request_limits(default: RequestLimits) -> dict[str, RequestLimits]:
    """Return the limits by route: `default`, with query strings for GET and for callbacks."""
    # Providers and event engines send query strings. Their views authenticate the caller by a
    # signature, a secret or a ticket, not by a login token.
    with_query = replace(default, query_allowed=True)
    routes_with_query = ("pili", "nginx", "event_stream")
    return dict.fromkeys(PATHS, default) | dict.fromkeys(routes_with_query, with_query)


def includeme(config: Configurator) -> None:
    config.add_route("event_stream", "/events", request_method="GET")
    for name in PATHS:
        factory = EventRequestValidator if name == "events" else RequestValidator
        config.add_route(name, f"/{name}", factory=factory)
    config.add_route("payment", "/payments")
    config.add_route("picture", "/pictures/{folder:[0-9a-f]{32}}/{name}")
    config.add_route("pili", "/pili/callback")
    config.add_route("nginx", HOOK_PATH)
    config.add_route("home", "/")
    config.add_route(
        "page", r"/{page:(?:openapi|openapi-operations|asyncapi)\.json|docs|demo|favicon\.ico}"
    )
    config.add_route("static", "/static/{digest}/{subpath:.+}")
