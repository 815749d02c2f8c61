"""/openapi.json, /docs, /demo, and what these are made of."""

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.api.error_reasons import Reason
from livebackend.api.errors import NotACall
from livebackend.api.request import Request


@view_config(route_name="page")
def page(request: Request) -> Response:
    """A page that was made at start; 404 for one that the settings switch off."""
    if request.method not in ("GET", "HEAD"):
        raise NotACall(405, "method", Reason.WRONG_METHOD)
    found = request.registry.pages.get(request.matchdict["page"])
    if found is None:
        raise NotACall(404, "path", Reason.WRONG_PATH)
    # Who names no coding takes any by the letter of RFC 9110; but nobody then unzips it.
    named = "Accept-Encoding" in request.headers
    takes_gzip = named and request.accept_encoding.acceptable_offers(["gzip"])
    is_zipped = bool(found.zipped and takes_gzip)
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
