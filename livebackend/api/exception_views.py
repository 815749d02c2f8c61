"""Exception views: each exception becomes a response envelope."""

import logging

from pyramid.exceptions import URLDecodeError
from pyramid.httpexceptions import HTTPNotFound
from pyramid.response import Response
from pyramid.view import exception_view_config
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.api.error_reasons import ErrorDetail, ErrorReason
from livebackend.api.error_table import error_outcome
from livebackend.api.errors import InvalidParameter, InvalidRequest
from livebackend.api.request import Request
from livebackend.api.responses import error_response, render
from livebackend.api.result_codes import ResultCode
from livebackend.core.errors import ClientDisconnected, DomainError, ServiceUnavailable
from livebackend.database.availability import DatabaseNotResponding

log = logging.getLogger(__name__)


@exception_view_config(DomainError)
def domain_error(error: DomainError, request: Request) -> Response:
    """Render a domain error as the response of its operation."""
    response = render(error_response(*error_outcome(error, request.operation)))
    response.retry_after = error.retry_after_s
    return response


@exception_view_config(InvalidParameter)
def invalid_parameter(error: InvalidParameter, request: Request) -> Response:
    """Render an invalid parameter as the response of its operation."""
    result_code = error.result_code or _default_error(request)
    return render(error_response(result_code, error.detail))


@exception_view_config(InvalidRequest)
def invalid_request(error: InvalidRequest, request: Request) -> Response:
    """Render an invalid request with its HTTP status and result code 0003."""
    return _invalid_request(error, request)


@exception_view_config(HTTPNotFound)
def not_found(error: HTTPNotFound, request: Request) -> Response:
    """Render an unknown path, or a form that selects no operation of its path, as 404."""
    if request.matched_route is None:
        return _invalid_request(InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH), request)
    return _invalid_request(InvalidRequest(404, "form", ErrorReason.NO_SELECTOR), request)


@exception_view_config(URLDecodeError)
def undecodable_path(error: URLDecodeError, request: Request) -> Response:
    """Render a path that is not UTF-8 as 400."""
    return _invalid_request(InvalidRequest(400, "path", ErrorReason.UNKNOWN_PATH), request)


@exception_view_config(ServiceUnavailable)
@exception_view_config(OperationalError)
@exception_view_config(InterfaceError)
@exception_view_config(InternalError)
@exception_view_config(PoolTimeout)
def service_unavailable(error: Exception, request: Request) -> Response:
    """Render a temporary failure as 503.

    The result code is the operation's default error code, or 0003 without an operation. A token
    error code would make clients discard the login token.
    """
    if isinstance(error, ClientDisconnected | DatabaseNotResponding):
        # There can be many: the client is gone, or an outage that is logged once.
        log.info("%s not executed: %s", _subject(request), getattr(error, "orig", error))
    else:
        log.error(
            "%s failed, service unavailable: %s",
            _subject(request),
            type(error).__name__,
            exc_info=error,
        )
    detail = ErrorDetail("request", ErrorReason.SERVICE_UNAVAILABLE)
    response = render(error_response(_default_error(request), detail), status=503)
    response.retry_after = getattr(error, "retry_after_s", 1)
    if getattr(error, "outcome_unknown", False):
        response.headers["X-Request-Outcome"] = "unknown"
    retry_request_id = getattr(error, "retry_request_id", None)
    if retry_request_id:
        response.headers["X-Retry-Request-Id"] = retry_request_id
    return response


@exception_view_config(DBAPIError)
def database_error(error: DBAPIError, request: Request) -> Response:
    """Render a lost connection, or one to a standby, as 503, and another error as 500."""
    view = service_unavailable if error.connection_invalidated else internal_error
    return view(error, request)


@exception_view_config(Exception)
def internal_error(error: Exception, request: Request) -> Response:
    """Log an unexpected exception and render it as 500, without details."""
    log.error("%s failed: unexpected exception", _subject(request), exc_info=error)
    detail = ErrorDetail("request", ErrorReason.INTERNAL_ERROR)
    return render(error_response(_default_error(request), detail), status=500)


def _invalid_request(error: InvalidRequest, request: Request) -> Response:
    content = error_response(ResultCode.INVALID_REQUEST, error.detail)
    response = render(content, status=error.status)
    if error.allowed:
        response.allow = error.allowed
    return response


def _subject(request: Request) -> str:
    return f"operation {request.operation.name}" if request.operation else "request"


def _default_error(request: Request) -> ResultCode:
    return request.operation.default_error if request.operation else ResultCode.INVALID_REQUEST
