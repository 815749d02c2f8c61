"""Declaration and registry of operations."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import getdoc
from types import MappingProxyType
from typing import Any, TypeVar

import venusian
from pyramid.config import Configurator

from livebackend.api.bilingual_text import BilingualText
from livebackend.api.docs_sections import DocsSection
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.parameters import AuthenticatedParameters, Parameters
from livebackend.api.responses import OperationResponse
from livebackend.api.result_codes import ResultCode
from livebackend.core.errors import DomainError

# Names of rate limits that services apply: to every password hash, to a login and every other check
# of a password, and to a registration of a phone that the client has not verified.
HASH_LIMITS = ("password_hashes_account", "password_hashes_address")
LOGIN_LIMITS = ("login_account", "login_address", "login_new_addresses", *HASH_LIMITS)
UNVERIFIED_LIMITS = ("unverified_address", "unverified_phone", "unverified_phone_address")

V = TypeVar("V")
P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True)
class Operation:
    """The declaration of an operation; views, /docs and clients are generated from it."""

    name: str
    routes: tuple[str, ...]
    # The parameter whose value "1" selects the operation; None if no such parameter selects it.
    selector: str | None
    # Names of parameters: a form that has one of them, with any value, selects the operation.
    presence_selectors: tuple[str, ...]
    parameters: type[Parameters]
    # The default result code of errors.
    default_error: ResultCode
    # The other result codes of errors. The codes of login token errors are added automatically.
    error_codes: tuple[ResultCode, ...]
    # The domain errors that the services of the operation raise, for the documentation. Those of
    # the login token, `rate_limits` and `unknown_user_limit` are added automatically.
    errors: tuple[type[DomainError], ...]
    # Whether the operation runs in one transaction. An operation that waits for an outside service
    # opens short transactions itself.
    transaction: bool
    # Whether the operation only reads. If so, it runs in autocommit mode, and its SQL statements do
    # not share a snapshot.
    read_only: bool
    # Whether the operation's SQL statement also checks the login token; otherwise a separate
    # statement checks it first.
    authenticates_in_query: bool
    # Names of `limits.*` settings: rate limits per account or, without a login, per client address.
    rate_limits: tuple[str, ...]
    # The rate limit that counts requests for an unknown user. Once it is reached, every request is
    # refused, because the response to a request for a known user would reveal that user's account.
    unknown_user_limit: str | None
    # Names of the rate limits that the operation's service applies, because they depend on data
    # that only the service has.
    service_limits: tuple[str, ...]
    # Whether the API document contains the operation. Other operations are extensions of this
    # server.
    documented: bool
    # Whether a client can retry the operation after an unknown outcome.
    idempotent: bool
    # If the first request succeeded, a retry of it fails with this error reason.
    already_done_reason: ErrorReason | None
    # The types of the message and of the extra fields of a successful response.
    message_type: Any
    extra_fields: Mapping[str, Any]
    docs_section: DocsSection
    title: BilingualText
    description: BilingualText

    @cached_property
    def requires_login(self) -> bool:
        return issubclass(self.parameters, AuthenticatedParameters)

    @property
    def all_limits(self) -> tuple[str, ...]:
        """The names of all rate limits that can refuse a request of this operation."""
        unknown_user_limit = (self.unknown_user_limit,) if self.unknown_user_limit else ()
        return (*self.rate_limits, *unknown_user_limit, *self.service_limits)

    @cached_property
    def result_codes(self) -> frozenset[ResultCode]:
        """All result codes that responses of this operation can have."""
        token_errors = (
            {ResultCode.TOKEN_EXPIRED, ResultCode.TOKEN_INVALID} if self.requires_login else set()
        )
        return frozenset({ResultCode.OK, self.default_error, *self.error_codes, *token_errors})

    @property
    def request_param_predicates(self) -> tuple[str | None, ...]:
        """Pyramid's `request_param` predicates; each one alone selects the operation."""
        return (f"{self.selector}=1",) if self.selector else self.presence_selectors or (None,)


def operation(
    selector: str | None = None,
    *,
    parameters: type[P],
    default_error: ResultCode,
    error_codes: Sequence[ResultCode] = (),
    errors: Sequence[type[DomainError]] = (),
    presence_selectors: Sequence[str] = (),
    transaction: bool = True,
    read_only: bool = False,
    authenticates_in_query: bool = False,
    rate_limits: Sequence[str] = (),
    unknown_user_limit: str | None = None,
    service_limits: Sequence[str] = (),
    documented: bool = True,
    idempotent: bool = False,
    already_done_reason: ErrorReason | None = None,
    message_type: Any = None,
    extra_fields: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[[Callable[[V, P], OperationResponse]], Callable[[V, P], OperationResponse]]:
    """Declare a view method as an operation.

    The first paragraph of the method's docstring is the title in both languages, the second one
    the English description, and the third one the Chinese description.
    """

    def decorate(
        method: Callable[[V, P], OperationResponse],
    ) -> Callable[[V, P], OperationResponse]:
        def register(context: Any, name: str, view: Any) -> None:
            routes = (view.route,) if isinstance(view.route, str) else view.route
            title, *description = (getdoc(method) or "").split("\n\n")
            context.config.add_operation(
                view,
                Operation(
                    name=method.__name__,
                    routes=routes,
                    selector=selector,
                    presence_selectors=tuple(presence_selectors),
                    parameters=parameters,
                    default_error=default_error,
                    error_codes=tuple(error_codes),
                    errors=tuple(errors),
                    transaction=transaction,
                    read_only=read_only,
                    authenticates_in_query=authenticates_in_query,
                    rate_limits=tuple(rate_limits),
                    unknown_user_limit=unknown_user_limit,
                    service_limits=tuple(service_limits),
                    documented=documented,
                    idempotent=idempotent or already_done_reason is not None,
                    already_done_reason=already_done_reason,
                    message_type=message_type,
                    extra_fields=extra_fields,
                    docs_section=view.docs_section,
                    title=BilingualText.parse(title),
                    description=BilingualText(*map(_joined_lines, description)),
                ),
            )

        venusian.attach(method, register, category="pyramid")
        return method

    return decorate


def _joined_lines(paragraph: str) -> str:
    """Join the lines of a paragraph: English with blanks, Chinese without."""
    return re.sub(r"(?<=[\x00-\x7f])\n(?=[\x00-\x7f])", " ", paragraph).replace("\n", "")


@dataclass
class Selectors:
    """The parameters that select an operation on one route."""

    names: set[str] = field(default_factory=set)
    presence_selectors: set[str] = field(default_factory=set)


def add_operation(config: Configurator, view: Any, declared: Operation) -> None:
    """Register a view per route and predicate, and an introspectable for the docs."""
    for route in declared.routes:
        selectors = config.registry.selectors.setdefault(route, Selectors())
        selectors.names |= {declared.selector} - {None}
        selectors.presence_selectors |= set(declared.presence_selectors)
        for request_param in declared.request_param_predicates:
            config.add_view(
                view,
                attr=declared.name,
                route_name=route,
                request_param=request_param,
                operation=declared,
            )
    entry = config.introspectable("operations", declared.name, declared.title.english, "operation")
    entry["operation"] = declared
    config.action(("operation", declared.name), introspectables=(entry,))


def operations(registry: Any) -> list[Operation]:
    """Return every operation of an application, in the order of declaration."""
    entries = registry.introspector.get_category("operations", sort_key=lambda entry: entry.order)
    return [entry["introspectable"]["operation"] for entry in entries]


def includeme(config: Configurator) -> None:
    config.registry.selectors = {}
    config.add_directive("add_operation", add_operation)
