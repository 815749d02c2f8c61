"""/openapi.json, /docs and /demo, and the static files that they load."""

import mimetypes

from pyramid.response import Response
from pyramid.static import static_view
from pyramid.view import view_config

from livebackend.api.error_reasons import Reason
from livebackend.api.errors import NotACall
from livebackend.api.request import Request, require_method

# Python's own table differs between versions, and only a system with /etc/mime.types adds to it.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("font/woff2", ".woff2")

serve_static = static_view("livebackend:static", use_subpath=True, cache_max_age=None)


@view_config(route_name="page")
def page(request: Request) -> Response:
    """Serve a page that was created at start; 404 if the settings disable it."""
    require_method(request, "GET", "HEAD")
    found = request.registry.pages.get(request.matchdict["page"])
    if found is None:
        raise NotACall(404, "path", Reason.WRONG_PATH)
    # By RFC 9110, a request without Accept-Encoding accepts any coding; but such clients do not
    # decompress.
    named = "Accept-Encoding" in request.headers
    is_zipped = bool(named and request.accept_encoding.acceptable_offers(["gzip"]))
    response = Response(
        body=found.zipped if is_zipped else found.body,
        content_type=found.content_type,
        charset="utf-8" if found.content_type.startswith("text/") else None,
        # Two representations, two tags.
        etag=f"{found.etag}-gzip" if is_zipped else found.etag,
        conditional_response=True,
    )
    if is_zipped:
        response.content_encoding = "gzip"
    response.headers.update(found.headers)
    return response


@view_config(route_name="static")
def static_file(request: Request) -> Response:
    """Serve a static file; 404 if the settings disable the pages."""
    require_method(request, "GET", "HEAD")
    # Checked first: the static view redirects from a folder to its index, and stores each unknown
    # name in memory for ever.
    if request.path_info.removeprefix("/") not in request.registry.static_paths:
        raise NotACall(404, "path", Reason.WRONG_PATH)
    response = serve_static(None, request)
    # In memory: granian holds a thread while a slow client receives a large file in blocks.
    response.body = response.body
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response
