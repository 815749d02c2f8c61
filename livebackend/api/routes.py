"""The seven paths of the API, where pictures and its own pages are served, and what others call."""

from dataclasses import replace

from pyramid.config import Configurator

from livebackend.api.declaration import Selectors
from livebackend.api.error_reasons import Reason
from livebackend.api.errors import NotACall
from livebackend.api.forms import Bounds
from livebackend.api.request import Request, require_method

PATHS = ("register", "upload", "log", "room", "list", "friend", "golden")
# What one's own media server asks before it lets anybody publish or watch.
HOOK = "/nginx/hook"


class Call:
    """The guard in front of a path: what passes has the shape of a call and one selector at most.

    Raises NotACall: 405, then as `Request.params` does, then 400 for two selectors.
    """

    def __init__(self, request: Request) -> None:
        require_method(request, "POST")
        selectors: Selectors = request.registry.selectors[request.matched_route.name]
        chosen = sum(request.params.get(name) == "1" for name in selectors.names)
        marked = any(name in request.params for name in selectors.marks)
        if chosen + marked > 1:
            raise NotACall(400, "form", Reason.TWO_SELECTORS)


def bounds(form: Bounds, *, upload_bytes_max: int) -> dict[str, Bounds]:
    """Return the limits of each route; `form` is the default."""
    upload = replace(form, body_bytes_max=upload_bytes_max)
    # Signed, or with a secret: by whom, only the view can tell.
    called = replace(form, query_allowed=True)
    return dict.fromkeys(PATHS, form) | {"upload": upload, "pili": called, "nginx": called}


def includeme(config: Configurator) -> None:
    for name in PATHS:
        config.add_route(name, f"/{name}", factory=Call)
    config.add_route("payment", "/payments")
    config.add_route("picture", "/pictures/{folder:[0-9a-f]{32}}/{name}")
    config.add_route("pili", "/pili/callback")
    config.add_route("nginx", HOOK)
    config.add_route("page", r"/{page:openapi\.json|docs|demo}")
    config.add_route("static", "/static/{digest}/{subpath:.+}")
