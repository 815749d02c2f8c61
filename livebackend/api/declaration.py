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
    """All there is to know about an operation of the API; everything else follows from it."""

    name: str
    routes: tuple[str, ...]
    # The parameter that selects the operation with the value "1", if there is one.
    selector: str | None
    # Parameters whose mere presence selects it, on a path whose operations have no selector.
    marks: tuple[str, ...]
    params: type[Params]
    # The code for every refusal that has none of its own.
    refusal: Result
    # The results of the document's row beside success and the refusal.
    codes: tuple[Result, ...]
    # False: it waits for something outside the database and opens its own short transactions.
    transaction: bool
    # Its statements only read, and each may stand by itself: it needs no transaction to see them.
    reads: bool
    # Its own statement finds out whose the login token is, and refuses one that was ended.
    identifies: bool
    # Names of settings `limits.*`: how often an account may call it, or else an address.
    limits: tuple[str, ...]
    # It is not in the API document.
    extension: bool
    # Done twice, it does no more than done once: it may be sent again after no reply.
    repeatable: bool
    # The reason by which a retry is refused if the first request was done.
    already_done: Reason | None
    # The type of a successful reply's message, and of what stands beside it.
    message: Any
    beside: Mapping[str, Any]
    # What it belongs to, in English and Chinese.
    chapter: str
    # One line: what it does, in English and Chinese.
    summary: str

    @property
    def login(self) -> bool:
        return issubclass(self.params, LoggedIn)

    @property
    def results(self) -> frozenset[Result]:
        """Every result that a reply of this operation may bear."""
        of_login = {Result.TOKEN_EXPIRED, Result.TOKEN_INVALID} if self.login else set()
        return frozenset({Result.OK, self.refusal, *self.codes, *of_login})

    @property
    def request_params(self) -> tuple[str | None, ...]:
        """Pyramid's `request_param` predicates, any one of which selects the operation."""
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
    """Declares a view's method as an operation; its docstring's first line is the summary."""

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
    """What selects an operation on one route."""

    names: set[str] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)


def add_operation(config: Configurator, view: Any, declared: Operation) -> None:
    """The directive behind `operation`: a view for each route and predicate, and its entry."""
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
    """Every operation of an application, in the order of its declaration."""
    entries = registry.introspector.get_category("operations", sort_key=lambda entry: entry.order)
    return [entry["introspectable"]["operation"] for entry in entries]


def includeme(config: Configurator) -> None:
    config.registry.selectors = {}
    config.add_directive("add_operation", add_operation)
