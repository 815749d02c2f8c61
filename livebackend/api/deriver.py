"""The view deriver: runs an operation in its transaction."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pyramid.config import Configurator
from sqlalchemy import Connection

from livebackend.api.declaration import Operation
from livebackend.api.error_table import reason_of
from livebackend.api.errors import Failure
from livebackend.api.parameters import Params
from livebackend.api.request import Request
from livebackend.core.errors import DomainError


def operation_deriver(view: Callable[[Any, Request], Any], info: Any) -> Callable[..., Any]:
    """Runs an operation: returning commits, raising rolls back, a lost race runs it again."""
    declared: Operation | None = info.options.get("operation")
    if declared is None:
        return view

    def call(context: Any, request: Request, connection: Connection | None = None) -> Any:
        if declared.login and not declared.identifies:
            _identify(request, connection)
        _count(request, declared)
        request.given = _read(request, declared, connection)
        return view(context, request)

    def call_with_connection(context: Any, request: Request) -> Any:
        def work(connection: Connection) -> Any:
            request.db = connection
            return call(context, request, connection)

        database = request.services.database
        return database.singly(work) if declared.reads else database.run(work)

    runner = call_with_connection if declared.transaction else call

    def run(context: Any, request: Request) -> Any:
        # First of all, so that whatever goes wrong is answered with this operation's code.
        request.operation = declared
        if declared.login:
            request.claims = request.services.login_tokens.read(request.params.get("token"))
        return _confirm_already_done(runner, declared, context, request)

    return run


def _confirm_already_done(
    runner: Callable[[Any, Request], Any], declared: Operation, context: Any, request: Request
) -> Any:
    """Run an operation; the refusal that it was done before waits for replication.

    A client that retries takes it for a success.
    """
    try:
        return runner(context, request)
    except DomainError as error:
        if reason_of(error) is declared.already_done:
            request.services.database.await_replication()
        raise


def _identify(request: Request, connection: Connection | None) -> None:
    services = request.services
    find = partial(services.login_tokens.identify, claims=request.claims)
    request.account = find(connection) if connection else services.database.singly(find)


def _read(request: Request, declared: Operation, connection: Connection | None) -> Params:
    try:
        return declared.params.read(request.params, phones=request.registry.phones_pattern)
    except Failure:
        # The operation's own statement is not reached, and a token that was ended goes first.
        if declared.identifies:
            _identify(request, connection)
        raise


def _count(request: Request, declared: Operation) -> None:
    """Counts the call by itself: a count stays counted whatever becomes of the transaction.

    Only now, for a token that was ended must not use up what its account may do.
    """
    for limit in declared.limits if not request.is_counted else ():
        who = f"account {request.account.id}" if declared.login else request.address
        request.services.rate_limits.take(limit, who)
    request.is_counted = True


operation_deriver.options = ("operation",)  # type: ignore[attr-defined]


def includeme(config: Configurator) -> None:
    config.add_view_deriver(operation_deriver)
