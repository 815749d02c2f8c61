"""/payments: where a payment provider says what was paid. It is no call of the app's."""

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.results import NotACall, Reason

_BYTES_MAX = 65_536


@view_config(route_name="payment")
def notification(request):
    """Booked, or known already, is 204; whatever else is refused, and the provider tries again."""
    orders = request.house.orders
    if orders is None:
        raise NotACall(404, "path", Reason.WRONG_PATH)
    if request.method != "POST":
        raise NotACall(405, "method", Reason.WRONG_METHOD)
    if (request.content_length or 0) > _BYTES_MAX:
        raise NotACall(413, "body", Reason.TOO_LARGE)
    headers = {name.lower(): value for name, value in request.headers.items()}
    orders.settle(headers, request.body)
    return Response(status=204)
