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
from livebackend.core.errors import DomainError


def operation_deriver(view: Callable[[Any, Request], Any], info: Any) -> Callable[..., Any]:
    """Wrap an operation: commit on return, roll back on errors, retry on conflicts."""
    declared: Operation | None = info.options.get("operation")
    if declared is None:
        return view

    def call(context: Any, request: Request, connection: Connection | None = None) -> Any:
        if declared.requires_login and not declared.authenticates_in_query:
            _authenticate(request, connection)
        _apply_rate_limits(request, declared)
        request.parameters = _parse_parameters(request, declared, connection)
        return view(context, request)

    def call_with_connection(context: Any, request: Request) -> Any:
        def work(connection: Connection) -> Any:
            request.db = connection
            return call(context, request, connection)

        database = request.services.database
        return database.run_autocommit(work) if declared.read_only else database.run(work)

    runner = call_with_connection if declared.transaction else call

    def run(context: Any, request: Request) -> Any:
        # The operation is set first, because exception views read its default error code.
        request.operation = declared
        if declared.requires_login:
            request.claims = request.services.login_tokens.read(request.params.get("token"))
            request.account_id = request.claims.account_id
        return _confirm_already_done(runner, declared, context, request)

    return run


def _confirm_already_done(
    runner: Callable[[Any, Request], Any], declared: Operation, context: Any, request: Request
) -> Any:
    """Run an operation; wait for replication before an "already done" error.

    A client counts the error `already_done_reason` as success of a retry, so the first request must
    be durable.
    """
    try:
        return runner(context, request)
    except DomainError as error:
        if reason_of(error) is declared.already_done_reason:
            request.services.database.await_replication()
        raise


def _authenticate(request: Request, connection: Connection | None) -> None:
    services = request.services
    find = partial(services.login_tokens.identify, claims=request.claims)
    request.current_user = (
        find(connection) if connection else services.database.run_autocommit(find)
    )


def _parse_parameters(
    request: Request, declared: Operation, connection: Connection | None
) -> Parameters:
    try:
        return declared.parameters.parse(
            request.params, phone_pattern=request.registry.phone_pattern
        )
    except InvalidParameter:
        # The token is checked here, because the operation's own statement does not run. A revoked
        # token takes precedence over an invalid parameter.
        if declared.authenticates_in_query:
            _authenticate(request, connection)
        raise


def _apply_rate_limits(request: Request, declared: Operation) -> None:
    """Apply the rate limits in separate transactions.

    A rollback of the operation does not undo the counts. The login token is checked first, because
    requests with a revoked token must not use up the account's limit.
    """
    for limit in declared.rate_limits if not request.rate_limits_applied else ():
        client = (
            f"account {request.current_user.id}" if declared.requires_login else request.address
        )
        request.services.rate_limits.consume(limit, client)
    request.rate_limits_applied = True


operation_deriver.options = ("operation",)  # type: ignore[attr-defined]


def includeme(config: Configurator) -> None:
    config.add_view_deriver(operation_deriver)
