"""Exception views: each exception becomes a response envelope."""

import logging

from pyramid.exceptions import URLDecodeError
from pyramid.httpexceptions import HTTPNotFound
from pyramid.view import exception_view_config
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.api.error_reasons import ErrorDetail, ErrorReason
from livebackend.api.error_table import error_outcome
from livebackend.api.errors import InvalidParameter, InvalidRequest
from livebackend.api.request import Request
from livebackend.api.responses import OperationResponse, error_response
from livebackend.api.result_codes import ResultCode
from livebackend.core.errors import ClientDisconnected, DomainError, ServiceUnavailable
from livebackend.database.availability import DatabaseNotResponding

log = logging.getLogger(__name__)


@exception_view_config(DomainError, renderer="envelope")
def domain_error(error: DomainError, request: Request) -> OperationResponse:
    """Render a domain error as the response of its operation."""
    request.response.retry_after = error.retry_after_s
    return error_response(*error_outcome(error, request.operation))


@exception_view_config(InvalidParameter, renderer="envelope")
def invalid_parameter(error: InvalidParameter, request: Request) -> OperationResponse:
    """Render an invalid parameter as the response of its operation."""
    return error_response(error.result_code or _default_error(request), error.detail)


@exception_view_config(InvalidRequest, renderer="envelope")
def invalid_request(error: InvalidRequest, request: Request) -> OperationResponse:
    """Render an invalid request with its HTTP status and result code 0003."""
    return _invalid_request(error, request)


@exception_view_config(HTTPNotFound, renderer="envelope")
def not_found(error: HTTPNotFound, request: Request) -> OperationResponse:
    """Render an unknown path, or a form that selects no operation of its path, as 404."""
    if request.matched_route is None:
        return _invalid_request(InvalidRequest(404, "path", ErrorReason.UNKNOWN_PATH), request)
    return _invalid_request(InvalidRequest(404, "form", ErrorReason.NO_SELECTOR), request)


@exception_view_config(URLDecodeError, renderer="envelope")
def undecodable_path(error: URLDecodeError, request: Request) -> OperationResponse:
    """Render a path that is not UTF-8 as 400."""
    return _invalid_request(InvalidRequest(400, "path", ErrorReason.UNKNOWN_PATH), request)


@exception_view_config(ServiceUnavailable, renderer="envelope")
@exception_view_config(OperationalError, renderer="envelope")
@exception_view_config(InterfaceError, renderer="envelope")
@exception_view_config(InternalError, renderer="envelope")
@exception_view_config(PoolTimeout, renderer="envelope")
def service_unavailable(error: Exception, request: Request) -> OperationResponse:
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
    request.response.status_int = 503
    request.response.retry_after = getattr(error, "retry_after_s", 1)
    if getattr(error, "outcome_unknown", False):
        request.response.headers["X-Request-Outcome"] = "unknown"
    retry_request_id = getattr(error, "retry_request_id", None)
    if retry_request_id:
        request.response.headers["X-Retry-Request-Id"] = retry_request_id
    detail = ErrorDetail("request", ErrorReason.SERVICE_UNAVAILABLE)
    return error_response(_default_error(request), detail)


@exception_view_config(DBAPIError, renderer="envelope")
def database_error(error: DBAPIError, request: Request) -> OperationResponse:
    """Render a lost connection, or one to a standby, as 503, and another error as 500."""
    render = service_unavailable if error.connection_invalidated else internal_error
    response: OperationResponse = render(error, request)
    return response


@exception_view_config(Exception, renderer="envelope")
def internal_error(error: Exception, request: Request) -> OperationResponse:
    """Log an unexpected exception and render it as 500, without details."""
    log.error("%s failed: unexpected exception", _subject(request), exc_info=error)
    request.response.status_int = 500
    return error_response(
        _default_error(request), ErrorDetail("request", ErrorReason.INTERNAL_ERROR)
    )


def _invalid_request(error: InvalidRequest, request: Request) -> OperationResponse:
    request.response.status_int = error.status
    if error.allowed:
        request.response.allow = error.allowed
    return error_response(ResultCode.INVALID_REQUEST, error.detail)


def _subject(request: Request) -> str:
    return f"operation {request.operation.name}" if request.operation else "request"


def _default_error(request: Request) -> ResultCode:
    return request.operation.default_error if request.operation else ResultCode.INVALID_REQUEST
