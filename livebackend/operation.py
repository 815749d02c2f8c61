"""How an operation is declared, found by its selector, and run inside its transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import getdoc
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import orjson
import venusian
from pyramid.config import Configurator
from sqlalchemy import Connection

from livebackend.params import LoggedIn, Params
from livebackend.request import Request
from livebackend.results import Failure, Reason, Reply, Result
from livebackend.services.accounts import identify

V = TypeVar("V", bound=Callable[..., Reply])


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


class View:
    """A path's operations. A subclass names its route, or routes, and what they are about."""

    route: ClassVar[str | tuple[str, ...]]
    # In English and Chinese; the Chinese is the API document's.
    chapter: ClassVar[str]

    def __init__(self, request: Request) -> None:
        self.request = request

    class __view_mapper__:  # noqa: N801  # Pyramid's name for who calls a view
        """Hands an operation its parameters."""

        def __init__(self, **options: Any) -> None:
            self.attr = options["attr"]

        def __call__(self, view: type["View"]) -> Callable[[Any, Request], Reply]:
            def mapped(context: Any, request: Request) -> Reply:
                reply: Reply = getattr(view(request), self.attr)(request.given)
                return reply

            return mapped


def operation(
    selector: str | None = None,
    *,
    params: type[Params],
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
) -> Callable[[V], V]:
    """Declares a view's method as an operation; its docstring's first line is the summary."""

    def decorate(method: V) -> V:
        def register(context: Any, name: str, view: type[View]) -> None:
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


def add_operation(config: Configurator, view: type[View], declared: Operation) -> None:
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


def operation_deriver(view: Callable[[Any, Request], Any], info: Any) -> Callable[..., Any]:
    """Runs an operation: returning commits, raising rolls back, a lost race runs it again."""
    declared: Operation | None = info.options.get("operation")
    if declared is None:
        return view

    def call(context: Any, request: Request) -> Any:
        if declared.login and not declared.identifies:
            _identify(request)
        _count(request, declared)
        request.given = _read(request, declared)
        return view(context, request)

    def call_with_connection(context: Any, request: Request) -> Any:
        def work(connection: Connection) -> Any:
            request.db = connection
            return call(context, request)

        database = request.house.database
        return database.singly(work) if declared.reads else database.run(work)

    runner = call_with_connection if declared.transaction else call

    def run(context: Any, request: Request) -> Any:
        # First of all, so that whatever goes wrong is answered with this operation's code.
        request.operation = declared
        if declared.login:
            request.claims = request.house.login_tokens.read(request.params.get("token"))
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
    except Failure as error:
        if error.refusal.reason is declared.already_done:
            request.house.database.await_replication()
        raise


def _identify(request: Request) -> None:
    find = partial(identify, claims=request.claims)
    request.account = find(request.db) if request.db else request.house.database.singly(find)


def _read(request: Request, declared: Operation) -> Params:
    try:
        return declared.params.read(request.params, phones=request.house.settings.phones_pattern)
    except Failure:
        # The operation's own statement is not reached, and a token that was ended goes first.
        if declared.identifies:
            _identify(request)
        raise


def _count(request: Request, declared: Operation) -> None:
    """Counts the call by itself: a count stays counted whatever becomes of the transaction.

    Only now, for a token that was ended must not use up what its account may do.
    """
    for limit in declared.limits if not request.is_counted else ():
        who = f"account {request.account.id}" if declared.login else request.address
        request.house.limits.take(limit, who)
    request.is_counted = True


operation_deriver.options = ("operation",)  # type: ignore[attr-defined]


class Envelope:
    """Renders a Reply: the JSON envelope, never cached, with the reason of a refusal beside it."""

    def __init__(self, info: Any) -> None:
        pass

    def __call__(self, reply: Reply, system: dict[str, Any]) -> bytes:
        request: Request = system["request"]
        request.result = reply.result
        response = request.response
        response.content_type = "application/json"
        response.headers["Cache-Control"] = "no-store"
        if reply.refusal:
            response.headers["X-Refusal"] = str(reply.refusal)
        return orjson.dumps(reply.body())


def includeme(config: Configurator) -> None:
    config.registry.selectors = {}
    config.add_directive("add_operation", add_operation)
    config.add_view_deriver(operation_deriver)
    config.add_renderer("envelope", Envelope)
