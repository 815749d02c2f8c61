"""Writes `client/operations.py` from the operations' declarations: `make client`."""

from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import Json
from pyramid.config import Configurator

from livebackend.api.declaration import Operation, operations
from livebackend.api.openapi import as_read
from livebackend.api.parameters import Parameter

# As long as a line may be.
_LINE = 100
_TARGET = Path(__file__).parent / "client" / "operations.py"
_HEAD = '''"""One method per operation. Written by `make client`, out of the declarations."""

from typing import Literal

from pydantic import Json, TypeAdapter

from livebackend.client.calls import Call, Calls, File
{replies}
'''


def declared() -> list[Operation]:
    """Every operation, as its readers meet it; no server and no database is needed."""
    config = Configurator()
    config.include("livebackend.api.declaration")
    config.include("livebackend.api.routes")
    config.include("livebackend.api.deriver")
    config.include("livebackend.api.responses")
    config.scan("livebackend.views")
    config.commit()
    return as_read(operations(config.registry))


def source(all_of_them: list[Operation]) -> str:
    """The module's text, in the style that the formatter leaves alone."""
    names = sorted({name for each in all_of_them for name in _names(each.message)})
    replies = f"from livebackend.api.response_types import {', '.join(names)}"
    if len(replies) > _LINE:
        inner = "".join(f"    {name},\n" for name in names)
        replies = f"from livebackend.api.response_types import (\n{inner})"
    calls = "\n".join(map(_call, all_of_them))
    methods = "\n".join(map(_method, all_of_them))
    return (
        f"{_HEAD.format(replies=replies)}\n{calls}\n\n\n"
        f'class Operations(Calls):\n    """Parameters have the names of the API."""\n\n{methods}'
    )


def _names(kind: Any) -> list[str]:
    """Names of replies within a type."""
    if get_args(kind):
        return [name for inner in get_args(kind) for name in _names(inner)]
    return (
        [kind.__name__]
        if getattr(kind, "__module__", "") == "livebackend.api.response_types"
        else []
    )


def _type(kind: Any) -> str:
    """A type as one writes it. What is JSON within a string is read already."""
    if kind in (None, NoneType):
        return "None"
    if hasattr(kind, "__metadata__"):
        return _type(get_args(kind)[0])
    if get_origin(kind) is UnionType:
        return " | ".join(map(_type, get_args(kind)))
    if get_origin(kind) is list:
        return f"list[{_type(get_args(kind)[0])}]"
    if get_origin(kind) is Literal:
        return f"Literal[{', '.join(_text(each) for each in get_args(kind))}]"
    return str(kind.__name__)


def _returned(operation: Operation) -> str:
    kinds = [_type(operation.message), *map(_type, operation.beside.values())]
    return kinds[0] if len(kinds) == 1 else f"tuple[{', '.join(kinds)}]"


def _call(operation: Operation) -> str:
    is_json = any(type(mark) is Json for mark in getattr(operation.message, "__metadata__", ()))
    returned = _returned(operation)
    adapted = f"Json[{returned}]" if is_json else returned
    options = {
        "selector": operation.selector,
        "beside": tuple(operation.beside),
        "files": tuple(
            each.name for each in operation.params.parameters() if "contentMediaType" in each.schema
        ),
        "login": operation.login,
        "repeatable": operation.repeatable,
        "already_done": operation.already_done and operation.already_done.value,
        "has_request_id": "requestId" in operation.params.model_fields,
    }
    lines = [f'    "/{operation.routes[0]}",', f"    TypeAdapter({adapted}),"]
    lines += [f"    {name}={_text(value)}," for name, value in options.items() if value]
    head = f"_{operation.name.upper()}: Call[{returned}] = Call("
    return "\n".join([head, *lines, ")"])


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))},)"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _method(operation: Operation) -> str:
    parameters = [
        each
        for each in operation.params.parameters()
        if not (operation.login and each.name == "token")
    ]
    given = []
    for each in sorted(parameters, key=lambda each: not _required(operation, each)):
        optional = "" if _required(operation, each) else " | None = None"
        given.append(f"        {each.name}: {_kind(each)}{optional},\n")
    codes = " ".join(sorted(result.code for result in operation.results)[1:])
    summary = operation.summary.partition(" · ")[0]
    says = "".join(f"        {each.name}: {each.schema['description']}\n" for each in parameters)
    passed = "".join(f", {each.name}={each.name}" for each in parameters)
    call = f"        return self.call(_{operation.name.upper()}{passed})\n"
    if len(call.rstrip()) > _LINE:
        inner = "".join(f"            {each.name}={each.name},\n" for each in parameters)
        call = (
            f"        return self.call(\n            _{operation.name.upper()},\n{inner}        )\n"
        )
    star = "\n        self,\n        *,\n" if given else "self"
    return (
        f"    def {operation.name}({star}{''.join(given)}{'    ' if given else ''}"
        f") -> {_returned(operation)}:\n"
        f'        """{summary}.\n\n{says}{chr(10) if says else ""}'
        f'        Refused with: {codes}\n        """\n{call}'
    )


def _required(operation: Operation, parameter: Parameter) -> bool:
    # What marks an operation must be there, whatever its value.
    return parameter.required or parameter.name in operation.marks


def _kind(parameter: Parameter) -> str:
    if "contentMediaType" in parameter.schema:
        return "File"
    if "enum" in parameter.schema:
        return f"Literal[{', '.join(map(_text, parameter.schema['enum']))}]"
    return "int" if parameter.schema["type"] == "integer" else "str"


if __name__ == "__main__":
    _TARGET.write_text(source(declared()), "utf-8")
