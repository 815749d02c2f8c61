"""The API in OpenAPI 3.1, made from the operations' declarations.

One path has several operations there, chosen by a parameter of the form, where OpenAPI knows one
POST for each path. So a path's request is one of its operations' requests, each with its selector
as a constant, and `x-operations` beside it has all there is to say about each.
"""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter

from livebackend.api.declaration import Operation
from livebackend.api.error_reasons import Reason
from livebackend.api.parameters import Parameter
from livebackend.api.result_codes import Result
from livebackend.api.routes import PATHS

_SCHEMA = "#/components/schemas/"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
# Headers of a request whose outcome is unknown.
_OUTCOME = ("X-Request-Outcome", "X-Repeat-As")
# What a reply may bear beside its body.
_HEADERS: dict[str, tuple[str, dict[str, str]]] = {
    "X-Refusal": (
        "which parameter was refused, and why; for developers",
        {"type": "string"},
    ),
    "Retry-After": (
        "seconds until the same call may succeed",
        {"type": "integer"},
    ),
    "X-Request-Outcome": (
        "unknown: the call may have been done all the same",
        {"const": "unknown"},
    ),
    "X-Repeat-As": (
        "a retry with this requestId moves coins at most once",
        {"type": "string"},
    ),
    "X-Request-Id": ("names this call in the server's log", {"type": "string"}),
}
# What is answered to whatever is no call of the API.
_NOT_A_CALL = {
    "400": ("the form is malformed, or selects two operations", "表单有误，或同时选择了两个操作"),
    "404": ("no such path, or the form selects no operation", "没有该路径，或表单没有选择操作"),
    "405": ("not a POST", "不是 POST 请求"),
    "413": ("the body is too large", "请求体过大"),
    "415": ("the body is no form in UTF-8", "请求体不是 UTF-8 表单"),
}


def document(operations: Sequence[Operation], *, phones: str, url: str) -> dict[str, Any]:
    """The whole document; `phones` is the regular expression of a phone number."""
    ordered = as_read(operations)
    messages, schemas = _messages(ordered)
    for each in ordered:
        schemas[f"{each.name}.request"] = _request(each, ordered, phones)
        schemas[f"{each.name}.reply"] = _reply(each, messages[each.name])
    schemas["not_a_call"] = _body({"const": Result.NOT_A_CALL.code}, {"type": "null"})
    chapters = {each.chapter: None for each in ordered}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "livebackend",
            "version": version("livebackend"),
            "description": (
                "Every call is a POST of a form. On most paths a selector, a parameter with the"
                " value 1, says which operation is meant: see x-operations. The status is 200"
                " whatever the result; the body's result says what became of the call."
            ),
        },
        "servers": [{"url": url}],
        "tags": [dict(zip(("name", "x-zh"), _both(chapter), strict=True)) for chapter in chapters],
        "paths": {f"/{route}": {"post": _post(route, ordered)} for route in PATHS},
        "components": {
            "schemas": schemas,
            "headers": {
                name: {"description": description, "schema": schema}
                for name, (description, schema) in _HEADERS.items()
            },
        },
        "x-results": {
            each.code: {"description": each.english, "x-zh": each.chinese} for each in Result
        },
        "x-refusals": [reason.value for reason in Reason],
    }


def as_read(operations: Iterable[Operation]) -> list[Operation]:
    """The operations in the order of the API document, and ours after its own.

    What takes no selector comes first on its path: it is what a newcomer calls first.
    """

    def place(operation: Operation) -> tuple[int, bool, bool, int]:
        chapter = min(
            PATHS.index(each.routes[0]) for each in known if each.chapter == operation.chapter
        )
        return (
            chapter,
            operation.extension,
            operation.selector is not None,
            PATHS.index(operation.routes[0]),
        )

    known = list(operations)
    return sorted(known, key=place)


def _both(text: str) -> tuple[str, str]:
    """English and Chinese of a declaration's line."""
    english, _, chinese = text.partition(" · ")
    return english, chinese


def _messages(operations: Iterable[Operation]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of each operation's message, and the schemas that they refer to."""
    adapters: list[tuple[str, Any, TypeAdapter[Any]]] = [
        (each.name, "validation", TypeAdapter(each.message)) for each in operations
    ]
    found, shared = TypeAdapter.json_schemas(adapters, ref_template=_SCHEMA + "{model}")
    schemas = dict(shared.get("$defs", {}))
    return {name: schema for (name, _), schema in found.items()}, schemas


def _request(operation: Operation, others: Iterable[Operation], phones: str) -> dict[str, Any]:
    parameters = operation.params.parameters()
    properties = {each.name: _parameter(each, phones) for each in parameters}
    required = [each.name for each in parameters if each.required]
    if operation.selector:
        properties = {operation.selector: {"const": "1"}, **properties}
        required.insert(0, operation.selector)
    schema: dict[str, Any] = {
        "type": "object",
        "title": _both(operation.summary)[0],
        "properties": properties,
        "required": required,
    }
    if operation.marks:
        schema["anyOf"] = [{"required": [mark]} for mark in operation.marks]
    elif not operation.selector:
        rivals = [
            selection
            for other in others
            if set(other.routes) & set(operation.routes)
            for selection in _selections(other)
        ]
        schema |= {"not": {"anyOf": rivals}} if rivals else {}
    return schema


def _selections(operation: Operation) -> list[dict[str, Any]]:
    """What, if a form holds it, selects the operation."""
    if operation.selector:
        name = operation.selector
        return [{"properties": {name: {"const": "1"}}, "required": [name]}]
    return [{"required": [mark]} for mark in operation.marks]


def _parameter(parameter: Parameter, phones: str) -> dict[str, Any]:
    schema = dict(parameter.schema)
    if schema.get("format") == "phone":
        schema["pattern"] = f"^(?:{phones})$"
    return schema


def _reply(operation: Operation, message: dict[str, Any]) -> dict[str, Any]:
    beside = {name: TypeAdapter(kind).json_schema() for name, kind in operation.beside.items()}
    refusals = operation.results - {Result.OK, Result.NOT_UPDATED}
    replies = [_body({"const": Result.OK.code}, message, **beside)]
    if refusals:
        codes = sorted(result.code for result in refusals)
        replies.append(_body({"enum": codes}, {"type": "null"}))
    if Result.NOT_UPDATED in operation.results:
        # The coin calls alone say in words that they failed.
        replies.append(_body({"const": Result.NOT_UPDATED.code}, {"const": "update failed"}))
    return {"title": f"{_both(operation.summary)[0]}: the reply", "oneOf": replies}


def _body(result: dict[str, Any], message: dict[str, Any], **beside: Any) -> dict[str, Any]:
    properties = {"result": {"type": "string", **result}, "message": message, **beside}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _post(route: str, ordered: Iterable[Operation]) -> dict[str, Any]:
    here = [each for each in ordered if route in each.routes]
    requests = [{"$ref": f"{_SCHEMA}{each.name}.request"} for each in here]
    replies = [{"$ref": f"{_SCHEMA}{each.name}.reply"} for each in here]
    is_upload = any(
        "contentMediaType" in p.schema for each in here for p in each.params.parameters()
    )
    request = {"schema": {"oneOf": requests}}
    reply = {"schema": {"anyOf": replies}}
    not_a_call = {"schema": {"$ref": f"{_SCHEMA}not_a_call"}}
    return {
        "operationId": route,
        "summary": " / ".join(_both(each.summary)[0] for each in here),
        "tags": sorted({_both(each.chapter)[0] for each in here}),
        "requestBody": {
            "required": True,
            "content": {_MULTIPART: request}
            if is_upload
            else {_FORM: request, _MULTIPART: request},
        },
        "responses": {
            "200": _response("the call was judged: see the result", "请求已处理，见 result", reply),
            **{code: _response(*says, not_a_call) for code, says in _NOT_A_CALL.items()},
            "500": _response("an error of ours", "服务器内部错误", reply),
            "503": _response("cannot be served now", "暂时无法处理", reply, *_OUTCOME),
        },
        "x-operations": {each.name: _operation(each) for each in here},
    }


def _response(english: str, chinese: str, content: dict[str, Any], *headers: str) -> dict[str, Any]:
    names = ("X-Refusal", "Retry-After", "X-Request-Id", *headers)
    return {
        "description": english,
        "x-zh": chinese,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {_JSON: content},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    """All there is to say about an operation."""
    english, chinese = _both(operation.summary)
    return {
        "summary": english,
        "x-zh": chinese,
        "tag": _both(operation.chapter)[0],
        "paths": [f"/{route}" for route in operation.routes],
        "selector": operation.selector,
        "request": {"$ref": f"{_SCHEMA}{operation.name}.request"},
        "reply": {"$ref": f"{_SCHEMA}{operation.name}.reply"},
        "results": sorted(result.code for result in operation.results),
        "x-extension": operation.extension,
        "x-repeatable": operation.repeatable,
        "x-already-done": operation.already_done,
    }
