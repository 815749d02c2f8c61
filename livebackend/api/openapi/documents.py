"""The two OpenAPI 3.1 documents of the API.

A path has several operations, selected by a form parameter, but OpenAPI allows one POST per path.
So there are two documents with the same schemas:

* by path, for tools that validate requests: the form of a path is one of those of its operations;
* by operation, for generators of clients and for /docs: each operation is a path of its own, such
  as `/friend#search`. HTTP clients do not send the fragment.
"""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from livebackend.api.docs_sections import DocsSection
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.openapi.responses import (
    HEADERS,
    SHARED_RESPONSES,
    shared_response_references,
    success_response,
)
from livebackend.api.openapi.schemas import component_schemas, reference, schema_name
from livebackend.api.operation_declaration import Operation
from livebackend.api.possible_errors import possible_errors
from livebackend.api.result_codes import ResultCode
from livebackend.api.routes import PATHS

_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_DESCRIPTION = (
    "Every request is a POST of a form. On most paths, a selector (a parameter with the value 1)"
    " selects the operation. The HTTP status is 200 for success and for errors of an operation; the"
    " result code in the body distinguishes them. An operation that needs a login has the form"
    " parameter `token`; HTTP authentication is not used."
)


class Documents(NamedTuple):
    """The OpenAPI documents of one API."""

    by_path: dict[str, Any]
    by_operation: dict[str, Any]


def build_documents(operations: Sequence[Operation], *, phone_pattern: str, url: str) -> Documents:
    """Return the OpenAPI documents; `phone_pattern` is the pattern of a phone number."""
    ordered = in_document_order(operations)
    schemas = component_schemas(ordered, phone_pattern=phone_pattern)
    common = {
        "openapi": "3.1.0",
        "info": {
            "title": "livebackend",
            "version": version("livebackend"),
            "description": _DESCRIPTION,
            "contact": {"name": "The livebackend authors"},
            "license": {
                "name": "Apache License 2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "servers": [{"url": url}],
        "security": [],
        "tags": [_tag(section) for section in DocsSection],
        "components": {"schemas": schemas, "headers": HEADERS, "responses": SHARED_RESPONSES},
        "x-results": described(ResultCode),
        "x-error-reasons": described(ErrorReason),
    }
    by_path = {f"/{route}": {"post": _post_of_path(route, ordered, schemas)} for route in PATHS}
    by_operation = {
        f"/{operation.routes[0]}#{operation.name}": {"post": _post_of_operation(operation, schemas)}
        for operation in ordered
    }
    return Documents({**common, "paths": by_path}, {**common, "paths": by_operation})


def described(members: Iterable[ResultCode] | Iterable[ErrorReason]) -> dict[str, Any]:
    """Return the descriptions of result codes or error reasons, in both languages."""
    return {
        member.value: {"description": member.english, "x-zh": member.chinese} for member in members
    }


def in_document_order(operations: Iterable[Operation]) -> list[Operation]:
    """Return the operations in the order of the API document.

    Within a section, operations that are not in that document come last. On a path, operations
    without a selector come first.
    """
    sections = list(DocsSection)

    def sort_key(operation: Operation) -> tuple[int, bool, bool, int]:
        return (
            sections.index(operation.docs_section),
            not operation.documented,
            operation.selector is not None,
            PATHS.index(operation.routes[0]),
        )

    return sorted(operations, key=sort_key)


def _tag(section: DocsSection) -> dict[str, Any]:
    return {
        "name": section.title.english,
        "x-zh": section.title.chinese,
        "description": section.description.english,
        "x-zh-description": section.description.chinese,
    }


def _post_of_operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    media_type = _MULTIPART if _has_file(operation) else _FORM
    errors = possible_errors(operation)
    return {
        "operationId": operation.name,
        "summary": operation.title.english,
        "x-zh": operation.title.chinese,
        "description": operation.description.english,
        "x-zh-description": operation.description.chinese,
        "tags": [operation.docs_section.title.english],
        "requestBody": {
            "required": True,
            "content": {media_type: {"schema": reference(schema_name(operation, "Request"))}},
        },
        "responses": {
            "200": success_response([operation], schemas),
            **shared_response_references(),
        },
        "x-paths": [f"/{route}" for route in operation.routes],
        "x-selector": operation.selector,
        "x-extension": not operation.documented,
        "x-idempotent": operation.idempotent,
        "x-already-done": operation.already_done_reason,
        "x-errors": {code.code: reasons for code, reasons in errors.items()},
    }


def _post_of_path(
    route: str, ordered: Iterable[Operation], schemas: dict[str, Any]
) -> dict[str, Any]:
    operations = [operation for operation in ordered if route in operation.routes]
    media_type = _MULTIPART if any(map(_has_file, operations)) else _FORM
    titles = [operation.title.english for operation in operations]
    forms = [_form(operation, operations) for operation in operations]
    return {
        "operationId": route,
        "summary": f"Operations of /{route}",
        "description": f"One of: {'; '.join(titles)}.",
        "tags": list(
            dict.fromkeys(operation.docs_section.title.english for operation in operations)
        ),
        "requestBody": {
            "required": True,
            "content": {media_type: {"schema": _one_of(forms)}},
        },
        "responses": {"200": success_response(operations, schemas), **shared_response_references()},
    }


def _has_file(operation: Operation) -> bool:
    return any(
        "contentMediaType" in parameter.schema for parameter in operation.parameters.describe()
    )


def _one_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"oneOf": schemas} if len(schemas) > 1 else schemas[0]


def _form(operation: Operation, operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the JSON Schema of a form that selects the operation and no other one."""
    form = reference(schema_name(operation, "Request"))
    if operation.selector or operation.presence_selectors:
        return form
    other_selections = [selection for other in operations for selection in _selections(other)]
    return {"allOf": [form, {"not": {"anyOf": other_selections}}]} if other_selections else form


def _selections(operation: Operation) -> list[dict[str, Any]]:
    """Return JSON Schemas of the forms that select the operation."""
    if operation.selector:
        name = operation.selector
        return [{"properties": {name: {"const": "1"}}, "required": [name]}]
    return [{"properties": {name: {}}, "required": [name]} for name in operation.presence_selectors]
