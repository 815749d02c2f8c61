"""The request class of the application."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pyramid.request import Request as PyramidRequest
from sqlalchemy import Connection

from livebackend.api.declaration import Operation
from livebackend.api.error_reasons import Reason
from livebackend.api.errors import NotACall
from livebackend.api.forms import Form, read_form
from livebackend.api.result_codes import Result
from livebackend.container import Services
from livebackend.services.login_tokens import Account, Claims


class Request(PyramidRequest):  # type: ignore[misc]  # Pyramid has no type hints
    """A Pyramid request with the services, the operation and the current user."""

    # Set by the view deriver of operations.
    operation: Operation | None = None
    _connection: Connection | None = None
    claims: Claims
    account: Account
    # Rate limits were applied: a retry of the transaction does not apply them again.
    is_counted = False
    # The result code of the response, once it is rendered.
    result: Result | None = None
    given: Any

    @property
    def db(self) -> Connection:
        """The connection of the operation's transaction.

        Raises RuntimeError in an operation that is declared without a transaction.
        """
        if self._connection is None:
            name = self.operation.name if self.operation else "this request"
            raise RuntimeError(f"{name} has no transaction: it must use services.database")
        return self._connection

    @db.setter
    def db(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def services(self) -> Services:
        services: Services = self.registry.services
        return services

    @cached_property
    def address(self) -> str:
        """The client address, for the rate limits of requests without a login."""
        address: str = self.registry.peers.address(self)
        return address

    @cached_property
    def params(self) -> Form:
        """The parameters of query string and body. Raises NotACall, as `read_form` does."""
        return read_form(self, self.registry.bounds[self.matched_route.name])


def require_method(request: Request, *allowed: str) -> None:
    """Raise NotACall with status 405 unless the method is allowed."""
    if request.method not in allowed:
        raise NotACall(405, "method", Reason.WRONG_METHOD, allowed=allowed)
