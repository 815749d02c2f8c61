"""Declaration and registry of operations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import getdoc
from types import MappingProxyType
from typing import Any, TypeVar

import venusian
from pyramid.config import Configurator

from livebackend.api.error_reasons import Reason
from livebackend.api.parameters import LoggedIn, Params
from livebackend.api.responses import Reply
from livebackend.api.result_codes import Result

V = TypeVar("V")
P = TypeVar("P", bound=Params)


@dataclass(frozen=True)
class Operation:
    """The declaration of an operation: routes, views, docs and clients derive from it."""

    name: str
    routes: tuple[str, ...]
    # The parameter that selects the operation by the value "1".
    selector: str | None
    # Parameters that select the operation by their presence, with any value.
    marks: tuple[str, ...]
    params: type[Params]
    # The default result code of errors.
    refusal: Result
    # The other result codes of errors; those of the login token are added automatically.
    codes: tuple[Result, ...]
    # False for an operation that waits for an outside service: it opens short transactions itself.
    transaction: bool
    # The operation only reads and needs no common snapshot: it runs in autocommit mode.
    reads: bool
    # Its own SQL statement also resolves the login token and detects a revoked one.
    identifies: bool
    # Names of `limits.*` settings: rate limits per account, or per address without a login.
    limits: tuple[str, ...]
    # The API document does not contain the operation.
    extension: bool
    # Idempotent: a client can retry it after an unknown outcome.
    repeatable: bool
    # The error reason of a retry whose first request succeeded.
    already_done: Reason | None
    # The types of the message and of the extra fields of a successful response.
    message: Any
    beside: Mapping[str, Any]
    # The heading in the documentation, "English · Chinese".
    chapter: str
    # The title in the documentation, "English · Chinese".
    summary: str

    @property
    def login(self) -> bool:
        return issubclass(self.params, LoggedIn)

    @property
    def results(self) -> frozenset[Result]:
        """Every result code that a response of this operation can have."""
        token_errors = {Result.TOKEN_EXPIRED, Result.TOKEN_INVALID} if self.login else set()
        return frozenset({Result.OK, self.refusal, *self.codes, *token_errors})

    @property
    def request_params(self) -> tuple[str | None, ...]:
        """Pyramid's `request_param` predicates; each one alone selects the operation."""
        return (f"{self.selector}=1",) if self.selector else self.marks or (None,)


def operation(
    selector: str | None = None,
    *,
    params: type[P],
    refusal: Result,
    codes: Sequence[Result] = (),
    marks: Sequence[str] = (),
    transaction: bool = True,
    reads: bool = False,
    identifies: bool = False,
    limits: Sequence[str] = (),
    extension: bool = False,
    repeatable: bool = False,
    already_done: Reason | None = None,
    message: Any = None,
    beside: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[[Callable[[V, P], Reply]], Callable[[V, P], Reply]]:
    """Declare a view method as an operation; its first docstring line is the title."""

    def decorate(method: Callable[[V, P], Reply]) -> Callable[[V, P], Reply]:
        def register(context: Any, name: str, view: Any) -> None:
            routes = (view.route,) if isinstance(view.route, str) else view.route
            context.config.add_operation(
                view,
                Operation(
                    name=method.__name__,
                    routes=routes,
                    selector=selector,
                    marks=tuple(marks),
                    params=params,
                    refusal=refusal,
                    codes=tuple(codes),
                    transaction=transaction,
                    reads=reads,
                    identifies=identifies,
                    limits=tuple(limits),
                    extension=extension,
                    repeatable=repeatable or already_done is not None,
                    already_done=already_done,
                    message=message,
                    beside=beside,
                    chapter=view.chapter,
                    summary=(getdoc(method) or "").partition("\n")[0],
                ),
            )

        venusian.attach(method, register, category="pyramid")
        return method

    return decorate


@dataclass
class Selectors:
    """The parameters that select an operation on one route."""

    names: set[str] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)


def add_operation(config: Configurator, view: Any, declared: Operation) -> None:
    """Register a view for each route and predicate, and an introspectable for the docs."""
    for route in declared.routes:
        selectors = config.registry.selectors.setdefault(route, Selectors())
        selectors.names |= {declared.selector} - {None}
        selectors.marks |= set(declared.marks)
        for request_param in declared.request_params:
            config.add_view(
                view,
                attr=declared.name,
                route_name=route,
                request_param=request_param,
                renderer="envelope",
                operation=declared,
            )
    entry = config.introspectable("operations", declared.name, declared.summary, "operation")
    entry["operation"] = declared
    config.action(("operation", declared.name), introspectables=(entry,))


def operations(registry: Any) -> list[Operation]:
    """Return every operation of an application, in the order of declaration."""
    entries = registry.introspector.get_category("operations", sort_key=lambda entry: entry.order)
    return [entry["introspectable"]["operation"] for entry in entries]


def includeme(config: Configurator) -> None:
    config.registry.selectors = {}
    config.add_directive("add_operation", add_operation)
