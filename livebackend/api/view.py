"""The base class of views. A view has the operations of one path."""

from collections.abc import Callable
from typing import Any, ClassVar

from livebackend.api.request import Request
from livebackend.api.responses import Reply


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
