"""The JSON Schemas of the OpenAPI documents: forms, response envelopes, messages, errors."""

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.operation_declaration import Operation
from livebackend.api.parameter_types import PUBLIC_ID
from livebackend.api.parameters import Parameter
from livebackend.api.result_codes import ResultCode

_PREFIX = "#/components/schemas/"


def reference(name: str) -> dict[str, str]:
    """Return a reference to a component schema."""
    return {"$ref": _PREFIX + name}


def schema_name(operation: Operation, kind: str) -> str:
    """Return the name of an operation's schema, such as `SearchRequest`."""
    return "".join(map(str.capitalize, operation.name.split("_"))) + kind


def component_schemas(operations: Iterable[Operation], *, phone_pattern: str) -> dict[str, Any]:
    """Return all schemas by name; `phone_pattern` is the pattern of a phone number."""
    message_schemas, schemas = _message_schemas(operations)
    for operation in operations:
        schemas[schema_name(operation, "Request")] = _request_schema(operation, phone_pattern)
        schemas[schema_name(operation, "Response")] = _response_schema(
            operation, message_schemas[operation.name]
        )
    return {**schemas, **_ERROR_SCHEMAS}


class _SchemaGenerator(GenerateJsonSchema):
    """Generates schemas without titles: generators of clients would create types from them."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _message_schemas(operations: Iterable[Operation]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return each operation's message schema, and the schemas that these refer to."""
    adapters: list[tuple[str, Any, TypeAdapter[Any]]] = [
        (operation.name, "validation", TypeAdapter(operation.message_type))
        for operation in operations
    ]
    message_schemas, shared_schemas = TypeAdapter.json_schemas(
        adapters, ref_template=_PREFIX + "{model}", schema_generator=_SchemaGenerator
    )
    schemas = dict(shared_schemas.get("$defs", {}))
    for schema in schemas.values():
        del schema["title"]
    return {name: schema for (name, _), schema in message_schemas.items()}, schemas


def _request_schema(operation: Operation, phone_pattern: str) -> dict[str, Any]:
    parameters = operation.parameters.describe()
    properties = {
        parameter.name: _parameter_schema(parameter, phone_pattern) for parameter in parameters
    }
    required = [
        parameter.name
        for parameter in parameters
        if parameter.required or parameter.name in operation.presence_selectors
    ]
    if operation.selector:
        selector_schema = {"type": "string", "const": "1", "description": "selects the operation"}
        properties = {operation.selector: selector_schema, **properties}
        required.insert(0, operation.selector)
    return {
        "type": "object",
        "description": f"The form of the operation: {operation.title.english}.",
        "properties": properties,
        "required": required,
    }


def _parameter_schema(parameter: Parameter, phone_pattern: str) -> dict[str, Any]:
    schema = dict(parameter.schema)
    patterns = {"phone": phone_pattern, "user-id": f"{phone_pattern}|{PUBLIC_ID}"}
    if schema.get("format") in patterns:
        schema["pattern"] = f"^(?:{patterns[schema['format']]})$"
    if "contentMediaType" in schema:
        # OpenAPI 3.1 does not define this format, but generators written for 3.0 need it.
        schema["format"] = "binary"
    return schema


def _response_schema(operation: Operation, message_schema: dict[str, Any]) -> dict[str, Any]:
    extra_schemas = {
        name: TypeAdapter(field_type).json_schema()
        for name, field_type in operation.extra_fields.items()
    }
    result_schema = {"type": "string", "const": ResultCode.OK.code, "description": "success"}
    description = f"The response to a successful request: {operation.title.english}."
    return _envelope(description, result_schema, message_schema, **extra_schemas)


def _envelope(
    description: str, result: dict[str, Any], message: dict[str, Any], **extra_fields: Any
) -> dict[str, Any]:
    properties = {"result": result, "message": message, **extra_fields}
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _enum_schema(
    description: str, members: Iterable[ResultCode] | Iterable[ErrorReason]
) -> dict[str, Any]:
    return {
        "type": "string",
        "description": description,
        "enum": [member.value for member in members],
        "x-enum-varnames": [member.name for member in members],
        "x-enum-descriptions": [member.english for member in members],
    }


_ERROR_SCHEMAS: dict[str, Any] = {
    "Error": _envelope(
        "The response to a request that failed. The header X-Error has the error reason.",
        reference("ErrorCode"),
        {
            "type": ["string", "null"],
            "enum": ["update failed", None],
            "description": "`update failed` with result code 0013, otherwise null",
        },
    ),
    "ErrorCode": _enum_schema(
        "The result code of an error. The result code of a success is 0000.",
        [code for code in ResultCode if code is not ResultCode.OK],
    ),
    "ErrorReason": _enum_schema(
        "A stable token for the cause of an error. New versions can add tokens.", ErrorReason
    ),
    "ErrorDetail": {
        "type": "object",
        "description": "The parts of the header X-Error.",
        "properties": {
            "parameter": {
                "type": "string",
                "description": "the wrong parameter, or another part of the request",
                "examples": ["nickname"],
            },
            "reason": reference("ErrorReason"),
            "min": {"type": "integer", "description": "the lower limit of the reason"},
            "max": {"type": "integer", "description": "the upper limit of the reason"},
        },
        "required": ["parameter", "reason"],
    },
}
