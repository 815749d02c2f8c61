"""/payments: notifications of payment providers; not an API operation."""

from pyramid.response import Response
from pyramid.view import view_config

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.error_table import error_outcome
from livebackend.api.errors import InvalidRequest
from livebackend.api.request import Request, require_method
from livebackend.core.errors import PaymentRejected


@view_config(route_name="payment")
def notification(request: Request) -> Response:
    """Credit the reported payment; the provider retries unless the status is 204."""
    orders = request.services.payment_orders
    if not orders.providers:
        raise InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH)
    require_method(request, "POST")
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        orders.receive(headers, request.body)
    except PaymentRejected as error:
        detail = error_outcome(error).detail
        raise InvalidRequest(400, detail.parameter, detail.reason) from error
    return Response(status=204)
