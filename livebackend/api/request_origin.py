"""Check of the web page that made a browser send a request."""

import re
from collections.abc import Set

from livebackend.api.request import Request

_WEB_ORIGIN = re.compile("https?:", re.IGNORECASE)
# Values of Sec-Fetch-Mode for a form, a link or an image. The page cannot read the response.
_MODES_OF_FORMS = ("navigate", "no-cors")
_SITES_OF_OWN_PAGES = ("same-origin", "none")


def is_from_foreign_page(request: Request, allowed_origins: Set[str]) -> bool:
    """Return whether a browser sent the request for a page of another web site.

    A request of an app has no Origin header. A page in the app's WebView has the origin `null` or
    `file://`, and the mode `cors`. Only the header Sec-Fetch-Mode distinguishes it from a form of
    another web site, whose origin can be `null` too.
    """
    environ = request.environ
    origin: str | None = environ.get("HTTP_ORIGIN")
    if origin in allowed_origins:
        return False
    if origin and _WEB_ORIGIN.match(origin):
        return True
    return (
        environ.get("HTTP_SEC_FETCH_MODE") in _MODES_OF_FORMS
        and environ.get("HTTP_SEC_FETCH_SITE") not in _SITES_OF_OWN_PAGES
    )
