"""The request class of the application."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import Any

from pyramid.request import Request as PyramidRequest
from sqlalchemy import Connection

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.forms import Form, read_form
from livebackend.api.operation_declaration import Operation
from livebackend.container import Services
from livebackend.services.login_tokens import CurrentUser, TokenClaims
from livebackend.services.rate_limits import RateLimit


class Request(PyramidRequest):  # type: ignore[misc]  # Pyramid has no type hints
    """A Pyramid request with the services, the operation and the current user."""

    # A body stays in memory, because its size is limited. WebOb would copy it to a temporary file.
    request_body_tempfile_limit = sys.maxsize

    # WebOb would store each attribute in the WSGI environment, where it is found only by a second
    # search.
    __setattr__ = object.__setattr__

    # The operation of the request, set by the view deriver.
    operation: Operation | None = None
    _connection: Connection | None = None
    claims: TokenClaims
    # The account id in the login token, set before the token is checked for revocation.
    account_id: int | None = None
    current_user: CurrentUser
    # Whether the statement that counted this request has set `current_user`.
    is_authenticated = False
    # The rate limits that count this request.
    counted_limits: tuple[RateLimit, ...] = ()
    parameters: Any

    @property
    def db(self) -> Connection:
        """The connection of the operation's transaction.

        Raises RuntimeError in an operation that is declared without a transaction.
        """
        if self._connection is None:
            subject = f"operation {self.operation.name}" if self.operation else "this request"
            raise RuntimeError(
                f"{subject} has no transaction: open one with services.database.run()"
            )
        return self._connection

    @db.setter
    def db(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def services(self) -> Services:
        services: Services = self.registry.services
        return services

    @cached_property
    def address(self) -> str:
        """The client address, for the rate limits of requests without a login."""
        address: str = self.registry.client_address_resolver.address(self)
        return address

    @cached_property
    def params(self) -> Form:
        """The parameters of query string and body. Raises InvalidRequest, as `read_form` does."""
        return read_form(self, self.registry.request_limits[self.matched_route.name])


def require_method(request: Request, *allowed: str) -> None:
    """Raise InvalidRequest with status 405 unless the method is allowed."""
    if request.method not in allowed:
        raise InvalidRequest(405, "method", ErrorReason.METHOD_NOT_ALLOWED, allowed=allowed)
