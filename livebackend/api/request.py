"""What hangs on a request."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pyramid.request import Request as PyramidRequest
from sqlalchemy import Connection

from livebackend.api.declaration import Operation
from livebackend.api.forms import Form, read_form
from livebackend.api.result_codes import Result
from livebackend.container import Services
from livebackend.services.login_tokens import Account, Claims


class Request(PyramidRequest):  # type: ignore[misc]  # pyramid brings no types
    """A request: `services` belong to the application, everything else to this request."""

    # Set by the operation's deriver.
    operation: Operation | None = None
    # None where the operation waits for something outside the database: such a one opens its own
    # short transactions.
    db: Connection = None  # type: ignore[assignment]
    claims: Claims
    account: Account
    # A lost race runs an operation again, and does not count it again.
    is_counted = False
    # What the reply bears, once there is one.
    result: Result | None = None
    given: Any

    @cached_property
    def services(self) -> Services:
        services: Services = self.registry.services
        return services

    @cached_property
    def address(self) -> str:
        """Whom limits count a call for that nobody logged in makes."""
        address: str = self.registry.peers.address(self)
        return address

    @cached_property
    def params(self) -> Form:
        """The parameters of query and body, each once. Raises NotACall, as `read_form` does."""
        return read_form(self, self.registry.bounds[self.matched_route.name])
