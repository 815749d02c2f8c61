"""/payments: notifications of payment providers; not an API operation."""

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.api.error_reasons import Reason
from livebackend.api.error_table import refusal_of
from livebackend.api.errors import NotACall
from livebackend.api.request import Request, require_method
from livebackend.core.errors import PaymentRejected

_BYTES_MAX = 65_536


@view_config(route_name="payment")
def notification(request: Request) -> Response:
    """Credit a payment; 204 if it is credited, now or before. Otherwise the provider retries."""
    orders = request.services.payment_orders
    if not orders.providers:
        raise NotACall(404, "path", Reason.WRONG_PATH)
    require_method(request, "POST")
    if (request.content_length or 0) > _BYTES_MAX:
        raise NotACall(413, "body", Reason.TOO_LARGE)
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        orders.receive(headers, request.body)
    except PaymentRejected as error:
        refusal = refusal_of(error).refusal
        raise NotACall(400, refusal.what, refusal.reason) from error
    return Response(status=204)
