"""What hangs on a request."""

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


class Request(PyramidRequest):  # type: ignore[misc]  # pyramid brings no types
    """A request: `services` belong to the application, everything else to this request."""

    # Set by the operation's deriver.
    operation: Operation | None = None
    _connection: Connection | None = None
    claims: Claims
    account: Account
    # A lost race runs an operation again, and does not count it again.
    is_counted = False
    # What the reply bears, once there is one.
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
        """The address that rate limits count a request without login for."""
        address: str = self.registry.peers.address(self)
        return address

    @cached_property
    def params(self) -> Form:
        """The parameters of query and body, each once. Raises NotACall, as `read_form` does."""
        return read_form(self, self.registry.bounds[self.matched_route.name])


def require_method(request: Request, *allowed: str) -> None:
    """Raise NotACall with status 405 if the request has another method."""
    if request.method not in allowed:
        raise NotACall(405, "method", Reason.WRONG_METHOD, allowed=allowed)
