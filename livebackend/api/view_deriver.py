"""The view deriver that runs the operations: token, rate limits, transaction."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pyramid.config import Configurator
from sqlalchemy import Connection

from livebackend.api.error_table import reason_of
from livebackend.api.errors import InvalidParameter
from livebackend.api.operation_declaration import Operation
from livebackend.api.parameters import Parameters
from livebackend.api.request import Request
from livebackend.core.errors import DomainError, UnknownUser
from livebackend.services.rate_limits import RateLimit, account_subject


def operation_deriver(view: Callable[[Any, Request], Any], info: Any) -> Callable[..., Any]:
    """Wrap an operation: commit on return, roll back on errors, retry on conflicts."""
    operation: Operation | None = info.options.get("operation")
    if operation is None:
        return view

    def check_and_call_view(
        context: Any, request: Request, connection: Connection | None = None
    ) -> Any:
        if operation.requires_login and not operation.authenticates_in_query:
            _authenticate(request, connection)
        request.parameters = _parse_parameters(request, operation, connection)
        _apply_rate_limits(request, operation)
        return view(context, request)

    def check_and_call_view_with_connection(context: Any, request: Request) -> Any:
        def run_with_connection(connection: Connection) -> Any:
            request.db = connection
            return check_and_call_view(context, request, connection)

        database = request.services.database
        run_function = database.run_autocommit if operation.read_only else database.run
        return run_function(run_with_connection)

    run_view = check_and_call_view_with_connection if operation.transaction else check_and_call_view

    def run(context: Any, request: Request) -> Any:
        # The operation is set first, because exception views read its default error code.
        request.operation = operation
        if operation.requires_login:
            request.claims = request.services.login_tokens.read(request.params.get("token"))
            request.account_id = request.claims.account_id
        return _confirm_already_done(run_view, operation, context, request)

    return run


def _confirm_already_done(
    run_view: Callable[[Any, Request], Any], operation: Operation, context: Any, request: Request
) -> Any:
    """Run an operation; wait for replication before raising an "already done" error.

    A retry that fails with `already_done_reason` tells the client that its first request succeeded.
    So the changes of the first request must be durable.
    """
    try:
        return run_view(context, request)
    except UnknownUser:
        _count_unknown_user(request, operation)
        raise
    except DomainError as error:
        if reason_of(error) is operation.already_done_reason:
            request.services.database.await_replication()
        raise


def _authenticate(request: Request, connection: Connection | None) -> None:
    services = request.services
    identify_user = partial(services.login_tokens.identify, claims=request.claims)
    request.current_user = (
        identify_user(connection) if connection else services.database.run_autocommit(identify_user)
    )


def _parse_parameters(
    request: Request, operation: Operation, connection: Connection | None
) -> Parameters:
    try:
        return operation.parameters.parse(
            request.params, phone_pattern=request.registry.phone_pattern
        )
    except InvalidParameter:
        # The operation's statement would check the token, but does not run after this error. The
        # token is checked here, because its error takes precedence over an invalid parameter.
        if operation.authenticates_in_query:
            _authenticate(request, connection)
        raise


def _apply_rate_limits(request: Request, operation: Operation) -> None:
    """Apply the rate limits in a separate transaction.

    A rollback of the operation does not undo the counts. The login token and the parameters are
    checked first, because an invalid request must not use up a limit.
    """
    if request.rate_limits_applied or not (operation.rate_limits or operation.unknown_user_limit):
        return
    subject = _limit_subject(request, operation)
    limits = [RateLimit(name, subject) for name in operation.rate_limits]
    if operation.unknown_user_limit:
        limits.append(_unknown_user_limit(request, operation.unknown_user_limit, counted=False))
    request.services.rate_limits.consume(*limits)
    request.rate_limits_applied = True


def _limit_subject(request: Request, operation: Operation) -> str:
    if not operation.requires_login:
        return request.address
    subject = account_subject(request.current_user.id)
    return f"{subject} {request.address}" if operation.limits_per_address else subject


def _count_unknown_user(request: Request, operation: Operation) -> None:
    """Count a request for an unknown user.

    Raises RateLimited, which hides that the user is unknown, if concurrent requests have reached
    the limit since `_apply_rate_limits`.
    """
    if operation.unknown_user_limit:
        limit = _unknown_user_limit(request, operation.unknown_user_limit, counted=True)
        request.services.rate_limits.consume(limit)


def _unknown_user_limit(request: Request, name: str, *, counted: bool) -> RateLimit:
    return RateLimit(name, account_subject(request.current_user.id), counted)


operation_deriver.options = ("operation",)  # type: ignore[attr-defined]


def includeme(config: Configurator) -> None:
    config.add_view_deriver(operation_deriver)
