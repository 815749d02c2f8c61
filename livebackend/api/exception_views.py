"""Exception views: each exception becomes a response envelope."""

import logging

from pyramid.exceptions import URLDecodeError
from pyramid.httpexceptions import HTTPNotFound
from pyramid.view import exception_view_config
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from livebackend.api.error_reasons import Reason, Refusal
from livebackend.api.error_table import refusal_of
from livebackend.api.errors import Failure, NotACall
from livebackend.api.request import Request
from livebackend.api.responses import Reply, refused
from livebackend.api.result_codes import Result
from livebackend.core.errors import DomainError, Unavailable

log = logging.getLogger(__name__)


@exception_view_config(DomainError, renderer="envelope")
def domain_error(error: DomainError, request: Request) -> Reply:
    """Render a DomainError."""
    request.response.retry_after = error.retry_after_s
    return refused(*refusal_of(error, request.operation))


@exception_view_config(Failure, renderer="envelope")
def failure(error: Failure, request: Request) -> Reply:
    """Render an invalid parameter."""
    return refused(error.result or _refusal_code(request), error.refusal)


@exception_view_config(NotACall, renderer="envelope")
def not_a_call(error: NotACall, request: Request) -> Reply:
    """Render an invalid request."""
    request.response.status_int = error.status
    if error.allowed:
        request.response.allow = error.allowed
    return refused(Result.NOT_A_CALL, error.refusal)


@exception_view_config(HTTPNotFound, renderer="envelope")
def not_found(error: HTTPNotFound, request: Request) -> Reply:
    """Render an unknown path, or a form that selects no operation of a known path."""
    request.response.status_int = 404
    if request.matched_route is None:
        return refused(Result.NOT_A_CALL, Refusal("path", Reason.WRONG_PATH))
    return refused(Result.NOT_A_CALL, Refusal("form", Reason.NO_SELECTOR))


@exception_view_config(URLDecodeError, renderer="envelope")
def undecodable(error: URLDecodeError, request: Request) -> Reply:
    """Render a path that is not UTF-8."""
    request.response.status_int = 400
    return refused(Result.NOT_A_CALL, Refusal("path", Reason.WRONG_PATH))


@exception_view_config(Unavailable, renderer="envelope")
@exception_view_config(OperationalError, renderer="envelope")
@exception_view_config(InterfaceError, renderer="envelope")
@exception_view_config(InternalError, renderer="envelope")
@exception_view_config(NoConnection, renderer="envelope")
def unavailable(error: Exception, request: Request) -> Reply:
    """Render a temporary failure as 503; the result code never invalidates the login token."""
    log.error(
        "%s failed, service unavailable: %s", _name(request), type(error).__name__, exc_info=error
    )
    request.response.status_int = 503
    request.response.retry_after = getattr(error, "retry_after_s", 1)
    if getattr(error, "outcome_unknown", False):
        request.response.headers["X-Request-Outcome"] = "unknown"
    repeat_as = getattr(error, "repeat_as", None)
    if repeat_as:
        request.response.headers["X-Repeat-As"] = repeat_as
    return refused(_refusal_code(request), Refusal("call", Reason.UNAVAILABLE))


@exception_view_config(Exception, renderer="envelope")
def broken(error: Exception, request: Request) -> Reply:
    """Log an unexpected exception and render it as 500, without details."""
    log.error("%s failed: unexpected exception", _name(request), exc_info=error)
    request.response.status_int = 500
    return refused(_refusal_code(request), Refusal("call", Reason.BROKEN))


def _name(request: Request) -> str:
    return f"operation {request.operation.name}" if request.operation else "request"


def _refusal_code(request: Request) -> Result:
    return request.operation.refusal if request.operation else Result.NOT_A_CALL
