"""The base class of views."""

from collections.abc import Callable
from typing import Any, ClassVar

from pyramid.response import Response

from livebackend.api.docs_sections import DocsSection
from livebackend.api.request import Request
from livebackend.api.responses import render


class View:
    """Base class of views; a subclass contains the operations of one API path."""

    route: ClassVar[str | tuple[str, ...]]
    docs_section: ClassVar[DocsSection]

    def __init__(self, request: Request) -> None:
        self.request = request

    class __view_mapper__:  # noqa: N801  # a name that Pyramid defines
        """Calls the view method of an operation with its parameters, and renders the response."""

        def __init__(self, **options: Any) -> None:
            self.attr = options["attr"]

        def __call__(self, view: type["View"]) -> Callable[[Any, Request], Response]:
            def call_operation(context: Any, request: Request) -> Response:
                return render(getattr(view(request), self.attr)(request.parameters))

            return call_operation
