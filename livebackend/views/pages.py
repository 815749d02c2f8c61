"""/docs, /demo, the documents of the API, /favicon.ico, static files, and the redirect from /."""

import mimetypes

from pyramid.httpexceptions import HTTPFound
from pyramid.response import Response
from pyramid.static import static_view
from pyramid.view import view_config

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.request import Request, require_method

# Python's own table of MIME types differs between versions, and is incomplete on systems without
# /etc/mime.types.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("font/woff2", ".woff2")
mimetypes.add_type("image/vnd.microsoft.icon", ".ico")
mimetypes.add_type("application/manifest+json", ".webmanifest")

serve_static = static_view("livebackend:static", use_subpath=True, cache_max_age=None)


@view_config(route_name="home")
def home(request: Request) -> Response:
    """Redirect to /docs; 404 if the settings disable it."""
    require_method(request, "GET", "HEAD")
    if "docs" not in request.registry.pages:
        raise InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH)
    return HTTPFound("/docs")


@view_config(route_name="page")
def page(request: Request) -> Response:
    """Serve a page; 404 if the settings disable the page."""
    require_method(request, "GET", "HEAD")
    stored_page = request.registry.pages.get(request.matchdict["page"])
    if stored_page is None:
        raise InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH)
    # A request without Accept-Encoding gets an uncompressed response. RFC 9110 allows gzip here,
    # but clients that omit this header do not decompress the response.
    has_accept_encoding = "Accept-Encoding" in request.headers
    is_compressed = bool(
        has_accept_encoding and request.accept_encoding.acceptable_offers(["gzip"])
    )
    response = Response(
        body=stored_page.gzip_body if is_compressed else stored_page.body,
        content_type=stored_page.content_type,
        charset="utf-8" if stored_page.content_type.startswith("text/") else None,
        # RFC 9110 requires different ETags for the compressed and the uncompressed response.
        etag=f"{stored_page.etag}-gzip" if is_compressed else stored_page.etag,
        conditional_response=True,
    )
    if is_compressed:
        response.content_encoding = "gzip"
    response.headers.update(stored_page.headers)
    return response


@view_config(route_name="static")
def static_file(request: Request) -> Response:
    """Serve a static file; 404 if the settings disable the pages."""
    require_method(request, "GET", "HEAD")
    # The path is checked first, because Pyramid's static view redirects from a folder to its index,
    # and caches unknown names without limit.
    if request.path_info.removeprefix("/") not in request.registry.static_paths:
        raise InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH)
    response = serve_static(None, request)
    # The file is read into memory here, because granian occupies a thread while it sends an
    # iterator to a slow client.
    response.body = response.body
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response
