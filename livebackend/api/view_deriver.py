"""The view deriver that runs the operations: token, rate limits, transaction."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pyramid.config import Configurator
from sqlalchemy import Connection

from livebackend.api.error_table import reason_of
from livebackend.api.errors import InvalidParameter
from livebackend.api.exception_views import domain_error, invalid_parameter
from livebackend.api.operation_declaration import Operation
from livebackend.api.parameters import Parameters
from livebackend.api.request import Request
from livebackend.core.errors import DomainError, RateLimited, UnknownUser
from livebackend.services.rate_limits import RateLimit, account_subject


def operation_deriver(view: Callable[[Any, Request], Any], info: Any) -> Callable[..., Any]:
    """Wrap an operation: commit on return, roll back on errors, retry on conflicts.

    Other views only wait for the database, except the exception views.
    """
    operation: Operation | None = info.options.get("operation")
    if operation is None:
        return view if info.exception_only else _require_database(view)

    def authenticate_and_call_view(
        context: Any, request: Request, connection: Connection | None = None
    ) -> Any:
        is_authenticated = operation.authenticates_in_query or request.is_authenticated
        if operation.requires_login and not is_authenticated:
            _authenticate(request, connection)
        return view(context, request)

    def run_with_connection(context: Any, request: Request) -> Any:
        def call_view(connection: Connection) -> Any:
            request.db = connection
            return authenticate_and_call_view(context, request, connection)

        database = request.services.database
        return (database.run_autocommit if operation.read_only else database.run)(call_view)

    run_view = run_with_connection if operation.transaction else authenticate_and_call_view

    def check_and_run(context: Any, request: Request) -> Any:
        request.services.database_gate.require_open()
        if operation.requires_login:
            request.claims = request.services.login_tokens.read(request.params.get("token"))
            request.account_id = request.claims.account_id
        request.parameters = _parse_parameters(request, operation)
        _apply_rate_limits(request, operation)
        return _correct_counts(run_view, operation, context, request)

    return _render_errors(check_and_run, operation)


def _render_errors(
    view: Callable[[Any, Request], Any], operation: Operation
) -> Callable[[Any, Request], Any]:
    """Respond to the errors of an operation.

    Pyramid needs a fifth of the time of a short request to find the exception views.
    """

    def run(context: Any, request: Request) -> Any:
        # The operation is set first, because exception views read its default error code.
        request.operation = operation
        try:
            return view(context, request)
        except DomainError as error:
            return domain_error(error, request)
        except InvalidParameter as error:
            return invalid_parameter(error, request)

    return run


def _require_database(view: Callable[[Any, Request], Any]) -> Callable[[Any, Request], Any]:
    """Reject requests until the database was usable once after the start."""

    def check_and_call_view(context: Any, request: Request) -> Any:
        request.services.database_gate.require_open()
        return view(context, request)

    return check_and_call_view


def _confirm_already_done(
    run_view: Callable[[Any, Request], Any], operation: Operation, context: Any, request: Request
) -> Any:
    """Run an operation; wait for replication before raising an "already done" error.

    A retry that fails with `already_done_reason` tells the client that its first request succeeded.
    So the changes of the first request must be durable.
    """
    try:
        return run_view(context, request)
    except DomainError as error:
        if reason_of(type(error)) is operation.already_done_reason:
            request.services.database.await_replication()
        raise


def _authenticate(request: Request, connection: Connection | None) -> None:
    services = request.services
    identify_user = partial(services.login_tokens.identify, claims=request.claims)
    request.current_user = (
        identify_user(connection) if connection else services.database.run_autocommit(identify_user)
    )


def _parse_parameters(request: Request, operation: Operation) -> Parameters:
    try:
        return operation.parameters.parse(
            request.params, phone_pattern=request.registry.phone_pattern
        )
    except InvalidParameter:
        # The statement that would check the token does not run after this error. The token is
        # checked here, because its error takes precedence over an invalid parameter.
        if operation.requires_login:
            _authenticate(request, None)
        raise


def _apply_rate_limits(request: Request, operation: Operation) -> None:
    """Count the request before its transaction; the same statement authenticates the user.

    A rollback or a retry of the operation does not change the counts. An invalid token or parameter
    uses up no limit. If no limit has a rule, the operation's own connection authenticates.
    """
    services = request.services
    limits = [RateLimit(name, _limit_subject(request)) for name in operation.rate_limits]
    all_limits = [*limits, *_unknown_user_limits(request, operation, counted=False)]
    if not services.rate_limits.has_rules(*all_limits):
        return
    if operation.requires_login:
        request.current_user = services.login_tokens.identify_and_count(
            services.rate_limits, request.claims, *all_limits
        )
        request.is_authenticated = True
    else:
        services.rate_limits.consume(*all_limits)
    request.counted_limits = tuple(limits)


def _correct_counts(
    run_view: Callable[[Any, Request], Any], operation: Operation, context: Any, request: Request
) -> Any:
    """Run an operation; after an error, correct the counts of the rate limits.

    A request for an unknown user is counted. If concurrent requests have reached that limit,
    RateLimited hides that the user is unknown. A request that is refused by a limit that the
    service applies must count against no limit.
    """
    try:
        try:
            return _confirm_already_done(run_view, operation, context, request)
        except UnknownUser:
            limits = _unknown_user_limits(request, operation, counted=True)
            request.services.rate_limits.consume(*limits)
            raise
    except RateLimited:
        request.services.rate_limits.undo(*request.counted_limits)
        raise


def _unknown_user_limits(
    request: Request, operation: Operation, *, counted: bool
) -> list[RateLimit]:
    name = operation.unknown_user_limit
    return [RateLimit(name, _limit_subject(request), counted)] if name else []


def _limit_subject(request: Request) -> str:
    is_logged_in = request.operation is not None and request.operation.requires_login
    return account_subject(request.claims.account_id) if is_logged_in else request.address


operation_deriver.options = ("operation",)  # type: ignore[attr-defined]


def includeme(config: Configurator) -> None:
    config.add_view_deriver(operation_deriver)
