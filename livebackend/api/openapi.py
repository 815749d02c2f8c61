"""The OpenAPI 3.1 document of the API, generated from the declared operations.

A path has several operations, selected by a form parameter, but OpenAPI allows one POST per path.
So the request of a path is `oneOf` the requests of its operations, each with its selector as a
constant; `x-operations` describes each operation.
"""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.operation_declaration import Operation
from livebackend.api.parameter_types import PUBLIC_ID
from livebackend.api.parameters import Parameter
from livebackend.api.responses import error_message
from livebackend.api.result_codes import ResultCode
from livebackend.api.routes import PATHS

_SCHEMA_PREFIX = "#/components/schemas/"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
# Headers of the response to a request whose outcome is unknown.
_OUTCOME_HEADERS = ("X-Request-Outcome", "X-Retry-Request-Id")
# Response headers: description and schema.
_HEADERS: dict[str, tuple[str, dict[str, str]]] = {
    "X-Error": (
        "parameter, error reason (see x-error-reasons), limits: nickname; reason=too_long; max=32",
        {"type": "string"},
    ),
    "Retry-After": (
        "seconds until a retry can succeed",
        {"type": "integer"},
    ),
    "X-Request-Outcome": (
        "unknown: the server may have executed the request",
        {"const": "unknown"},
    ),
    "X-Retry-Request-Id": (
        "requestId for a retry: with it, coins move at most once",
        {"type": "string"},
    ),
    "X-Request-Id": ("ID of the request in the server's log", {"type": "string"}),
}
# HTTP statuses of invalid requests, with descriptions in English and Chinese.
_INVALID_REQUEST_STATUSES = {
    "400": ("malformed form, or two operations selected", "表单格式错误，或同时选择了两个接口"),
    "404": ("unknown path, or no operation selected", "路径不存在，或未选择接口"),
    "405": ("method other than POST", "请求方法不是 POST"),
    "413": ("body too large", "请求体过大"),
    "415": ("body is not a form in UTF-8", "请求体不是 UTF-8 编码的表单"),
}


def build_document(
    operations: Sequence[Operation], *, phone_pattern: str, url: str
) -> dict[str, Any]:
    """Return the OpenAPI document; `phone_pattern` is the pattern of a phone number."""
    ordered = in_document_order(operations)
    message_schemas, schemas = _message_schemas(ordered)
    for operation in ordered:
        schemas[f"{operation.name}.request"] = _request_schema(operation, ordered, phone_pattern)
        schemas[f"{operation.name}.response"] = _response_schema(
            operation, message_schemas[operation.name]
        )
    schemas["invalid_request"] = _envelope_schema(
        {"const": ResultCode.INVALID_REQUEST.code}, {"type": "null"}
    )
    docs_sections = {operation.docs_section: None for operation in ordered}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "livebackend",
            "version": version("livebackend"),
            "description": (
                "Every request is a POST of a form. On most paths, a selector (a parameter with"
                " the value 1) selects the operation: see x-operations. The HTTP status is 200"
                " for success and for errors of an operation; the result code in the body"
                " distinguishes them."
            ),
        },
        "servers": [{"url": url}],
        "tags": [
            dict(zip(("name", "x-zh"), _english_and_chinese(docs_section), strict=True))
            for docs_section in docs_sections
        ],
        "paths": {f"/{route}": {"post": _post(route, ordered)} for route in PATHS},
        "components": {
            "schemas": schemas,
            "headers": {
                name: {"description": description, "schema": schema}
                for name, (description, schema) in _HEADERS.items()
            },
        },
        "x-results": {
            result.code: {"description": result.english, "x-zh": result.chinese}
            for result in ResultCode
        },
        "x-error-reasons": {
            reason.value: {"description": reason.english, "x-zh": reason.chinese}
            for reason in ErrorReason
        },
    }


def in_document_order(operations: Iterable[Operation]) -> list[Operation]:
    """Return the operations in the order of the mobile app's API document.

    Within a section, operations that are not in that document come last. On a path, operations
    without a selector come first.
    """

    def sort_key(operation: Operation) -> tuple[int, bool, bool, int]:
        docs_section = min(
            PATHS.index(other.routes[0])
            for other in unordered
            if other.docs_section == operation.docs_section
        )
        return (
            docs_section,
            not operation.documented,
            operation.selector is not None,
            PATHS.index(operation.routes[0]),
        )

    unordered = list(operations)
    return sorted(unordered, key=sort_key)


def _english_and_chinese(text: str) -> tuple[str, str]:
    english, _, chinese = text.partition(" · ")
    return english, chinese


def _message_schemas(operations: Iterable[Operation]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return each operation's message schema, and the schemas that these refer to."""
    adapters: list[tuple[str, Any, TypeAdapter[Any]]] = [
        (operation.name, "validation", TypeAdapter(operation.message_type))
        for operation in operations
    ]
    message_schemas, shared_schemas = TypeAdapter.json_schemas(
        adapters, ref_template=_SCHEMA_PREFIX + "{model}"
    )
    schemas = dict(shared_schemas.get("$defs", {}))
    return {name: schema for (name, _), schema in message_schemas.items()}, schemas


def _request_schema(
    operation: Operation, all_operations: Iterable[Operation], phone_pattern: str
) -> dict[str, Any]:
    parameters = operation.parameters.describe()
    properties = {
        parameter.name: _parameter_schema(parameter, phone_pattern) for parameter in parameters
    }
    required = [parameter.name for parameter in parameters if parameter.required]
    if operation.selector:
        properties = {operation.selector: {"const": "1"}, **properties}
        required.insert(0, operation.selector)
    schema: dict[str, Any] = {
        "type": "object",
        "title": _english_and_chinese(operation.summary)[0],
        "properties": properties,
        "required": required,
    }
    if operation.presence_selectors:
        schema["anyOf"] = [{"required": [name]} for name in operation.presence_selectors]
    elif not operation.selector:
        other_selections = [
            selection
            for other in all_operations
            if set(other.routes) & set(operation.routes)
            for selection in _selections(other)
        ]
        schema |= {"not": {"anyOf": other_selections}} if other_selections else {}
    return schema


def _selections(operation: Operation) -> list[dict[str, Any]]:
    """Return JSON Schemas of the forms that select the operation."""
    if operation.selector:
        name = operation.selector
        return [{"properties": {name: {"const": "1"}}, "required": [name]}]
    return [{"required": [name]} for name in operation.presence_selectors]


def _parameter_schema(parameter: Parameter, phone_pattern: str) -> dict[str, Any]:
    schema = dict(parameter.schema)
    patterns = {"phone": phone_pattern, "user-id": f"{phone_pattern}|{PUBLIC_ID}"}
    if schema.get("format") in patterns:
        schema["pattern"] = f"^(?:{patterns[schema['format']]})$"
    return schema


def _response_schema(operation: Operation, message_schema: dict[str, Any]) -> dict[str, Any]:
    extra_schemas = {
        name: TypeAdapter(field_type).json_schema()
        for name, field_type in operation.extra_fields.items()
    }
    error_codes = operation.result_codes - {ResultCode.OK, ResultCode.COINS_NOT_UPDATED}
    responses = [_envelope_schema({"const": ResultCode.OK.code}, message_schema, **extra_schemas)]
    if error_codes:
        codes = sorted(result.code for result in error_codes)
        responses.append(_envelope_schema({"enum": codes}, {"type": "null"}))
    if ResultCode.COINS_NOT_UPDATED in operation.result_codes:
        coin_error = ResultCode.COINS_NOT_UPDATED
        responses.append(
            _envelope_schema({"const": coin_error.code}, {"const": error_message(coin_error)})
        )
    title = _english_and_chinese(operation.summary)[0]
    return {"title": f"{title}: response", "oneOf": responses}


def _envelope_schema(
    result_schema: dict[str, Any], message_schema: dict[str, Any], **extra_schemas: Any
) -> dict[str, Any]:
    properties = {
        "result": {"type": "string", **result_schema},
        "message": message_schema,
        **extra_schemas,
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _post(route: str, ordered: Iterable[Operation]) -> dict[str, Any]:
    operations = [operation for operation in ordered if route in operation.routes]
    requests = [{"$ref": f"{_SCHEMA_PREFIX}{operation.name}.request"} for operation in operations]
    responses = [{"$ref": f"{_SCHEMA_PREFIX}{operation.name}.response"} for operation in operations]
    is_upload = any(
        "contentMediaType" in parameter.schema
        for operation in operations
        for parameter in operation.parameters.describe()
    )
    request_content = {"schema": {"oneOf": requests}}
    response_content = {"schema": {"anyOf": responses}}
    invalid_request_content = {"schema": {"$ref": f"{_SCHEMA_PREFIX}invalid_request"}}
    return {
        "operationId": route,
        "summary": " / ".join(
            _english_and_chinese(operation.summary)[0] for operation in operations
        ),
        "tags": sorted(
            {_english_and_chinese(operation.docs_section)[0] for operation in operations}
        ),
        "requestBody": {
            "required": True,
            "content": {_MULTIPART: request_content}
            if is_upload
            else {_FORM: request_content, _MULTIPART: request_content},
        },
        "responses": {
            "200": _response(
                "request processed: see the result code",
                "请求已处理，结果见 result",
                response_content,
            ),
            **{
                status: _response(*description, invalid_request_content)
                for status, description in _INVALID_REQUEST_STATUSES.items()
            },
            "500": _response("internal server error", "服务器内部错误", response_content),
            "503": _response(
                "service temporarily unavailable",
                "服务暂不可用",
                response_content,
                *_OUTCOME_HEADERS,
            ),
        },
        "x-operations": {operation.name: _operation(operation) for operation in operations},
    }


def _response(english: str, chinese: str, content: dict[str, Any], *headers: str) -> dict[str, Any]:
    header_names = ("X-Error", "Retry-After", "X-Request-Id", *headers)
    return {
        "description": english,
        "x-zh": chinese,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in header_names},
        "content": {_JSON: content},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    english, chinese = _english_and_chinese(operation.summary)
    return {
        "summary": english,
        "x-zh": chinese,
        "tag": _english_and_chinese(operation.docs_section)[0],
        "paths": [f"/{route}" for route in operation.routes],
        "selector": operation.selector,
        "request": {"$ref": f"{_SCHEMA_PREFIX}{operation.name}.request"},
        "response": {"$ref": f"{_SCHEMA_PREFIX}{operation.name}.response"},
        "results": sorted(result.code for result in operation.result_codes),
        "x-extension": not operation.documented,
        "x-idempotent": operation.idempotent,
        "x-already-done": operation.already_done_reason,
    }
