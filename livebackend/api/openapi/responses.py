"""The responses of the OpenAPI documents: statuses, headers, examples."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from livebackend.api.openapi.schemas import reference, schema_name
from livebackend.api.operation_declaration import Operation
from livebackend.api.possible_errors import possible_errors
from livebackend.api.responses import error_message
from livebackend.api.result_codes import ResultCode

_JSON = "application/json"


def success_response(operations: Sequence[Operation], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response with status 200 of one of the operations.

    The response of a single operation has examples.
    """
    messages = [reference(schema_name(operation, "Response")) for operation in operations]
    # Operations of one path can have equal responses, so more than one schema can match.
    keyword = "oneOf" if len(operations) == 1 else "anyOf"
    content: dict[str, Any] = {"schema": {keyword: [*messages, reference("Error")]}}
    if len(operations) == 1:
        content["examples"] = _examples(operations[0], messages[0], schemas)
    return _response("success, or an error of the operation", "成功，或操作失败", content)


def shared_response_references() -> dict[str, Any]:
    """Return references to the responses that every operation has, by HTTP status."""
    return {status: {"$ref": f"#/components/responses/{name}"} for status, name in _NAMES.items()}


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """Return an example of a JSON Schema, composed of the examples of its parts.

    Raises LookupError if a part has no example.
    """
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], schemas)
    if "contentSchema" in schema:
        content = example_of(schema["contentSchema"], schemas)
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return _example_of_type(schema, schemas)


def _example_of_type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    if "const" in schema:
        return schema["const"]
    match schema.get("type"):
        case "null":
            return None
        case "array":
            return [example_of(schema["items"], schemas)]
        case "object":
            properties = schema["properties"]
            return {name: example_of(properties[name], schemas) for name in properties}
    raise LookupError(f"the schema has no example: {schema}")


def _examples(
    operation: Operation, message: Mapping[str, Any], schemas: Mapping[str, Any]
) -> dict[str, Any]:
    code = next(iter(possible_errors(operation)))
    return {
        "success": {"summary": "success", "value": example_of(message, schemas)},
        "error": {"summary": code.english, "value": _error_body(code)},
    }


def _error_body(code: ResultCode) -> dict[str, Any]:
    return {"result": code.code, "message": error_message(code)}


def _response(english: str, chinese: str, content: dict[str, Any], *headers: str) -> dict[str, Any]:
    names = ("X-Error", "Retry-After", "X-Request-Id", *headers)
    return {
        "description": english,
        "x-zh": chinese,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {_JSON: content},
    }


def _error_response(code: ResultCode, english: str, chinese: str, *headers: str) -> dict[str, Any]:
    content = {"schema": reference("Error"), "example": _error_body(code)}
    return _response(english, chinese, content, *headers)


# The names of the responses that every operation has, by HTTP status.
_NAMES = {
    "400": "BadRequest",
    "404": "NotFound",
    "405": "MethodNotAllowed",
    "413": "BodyTooLarge",
    "415": "UnsupportedMediaType",
    "500": "InternalError",
    "503": "ServiceUnavailable",
}
_INVALID = ResultCode.INVALID_REQUEST
SHARED_RESPONSES = {
    "BadRequest": _error_response(
        _INVALID, "malformed form, or two operations selected", "表单格式错误，或同时选择了两个接口"
    ),
    "NotFound": _error_response(
        _INVALID, "unknown path, or no operation selected", "路径不存在，或未选择接口"
    ),
    "MethodNotAllowed": _error_response(_INVALID, "method other than POST", "请求方法不是 POST"),
    "BodyTooLarge": _error_response(_INVALID, "body too large", "请求体过大"),
    "UnsupportedMediaType": _error_response(
        _INVALID, "body is not a form in UTF-8", "请求体不是 UTF-8 编码的表单"
    ),
    "InternalError": _error_response(
        ResultCode.UNKNOWN_ERROR, "internal server error", "服务器内部错误"
    ),
    "ServiceUnavailable": _error_response(
        ResultCode.UNKNOWN_ERROR,
        "service temporarily unavailable",
        "服务暂不可用",
        "X-Request-Outcome",
        "X-Retry-Request-Id",
    ),
}
HEADERS: dict[str, dict[str, Any]] = {
    "X-Error": {
        "description": "the wrong parameter, the error reason and its limits",
        "x-zh": "出错的参数、错误原因及其限值",
        "schema": {
            "type": "string",
            "examples": ["nickname; reason=too_long; max=32"],
            "contentMediaType": "text/plain",
            "contentSchema": reference("ErrorDetail"),
        },
    },
    "Retry-After": {
        "description": "seconds until a retry can succeed",
        "x-zh": "多少秒后重试可能成功",
        "schema": {"type": "integer", "minimum": 0},
    },
    "X-Request-Outcome": {
        "description": "unknown: the server may have executed the request",
        "x-zh": "unknown：服务器可能已执行该请求",
        "schema": {"type": "string", "const": "unknown"},
    },
    "X-Retry-Request-Id": {
        "description": "requestId for a retry: with it, coins move at most once",
        "x-zh": "重试时使用的 requestId，使金币最多变动一次",
        "schema": {"type": "string"},
    },
    "X-Request-Id": {
        "description": "ID of the request in the server's log",
        "x-zh": "请求在服务器日志中的标识",
        "schema": {"type": "string"},
    },
}
