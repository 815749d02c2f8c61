"""The OpenAPI document is valid and matches the declarations of the operations."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.operation_declaration import Operation, operations
from livebackend.api.result_codes import ResultCode
from livebackend.api.routes import PATHS
from tests.support.api import PASSWORD, App, openapi_document

PHONE = "13800000001"


@pytest.fixture(scope="module")
def document(app: App) -> dict[str, Any]:
    return openapi_document(app.registry)


@pytest.fixture(scope="module")
def declared_operations(app: App) -> list[Operation]:
    return operations(app.registry)


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


def test_every_path_lists_the_operations_of_its_route(
    document: dict[str, Any], declared_operations: list[Operation]
) -> None:
    assert set(document["paths"]) == {f"/{path}" for path in PATHS}
    for path, methods in document["paths"].items():
        assert set(methods) == {"post"}
        operation_names = {
            operation.name
            for operation in declared_operations
            if path.removeprefix("/") in operation.routes
        }
        assert set(methods["post"]["x-operations"]) == operation_names
        for content in methods["post"]["requestBody"]["content"].values():
            refs = [schema["$ref"] for schema in content["schema"]["oneOf"]]
            assert sorted(refs) == sorted(
                f"#/components/schemas/{name}.request" for name in operation_names
            )


def test_description_of_an_operation_matches_its_declaration(
    document: dict[str, Any], declared_operations: list[Operation]
) -> None:
    for operation in declared_operations:
        described_operation = document["paths"][f"/{operation.routes[0]}"]["post"]["x-operations"][
            operation.name
        ]
        assert (
            f"{described_operation['summary']} · {described_operation['x-zh']}" == operation.summary
        )
        assert described_operation["x-extension"] is (not operation.documented)
        assert described_operation["results"] == sorted(
            result.code for result in operation.result_codes
        )
        request = document["components"]["schemas"][f"{operation.name}.request"]
        parameter_names = set(operation.parameters.model_fields) | {operation.selector} - {None}
        assert set(request["properties"]) == parameter_names
        if operation.selector:
            assert request["properties"][operation.selector] == {"const": "1"}
        required_parameters = {
            name for name, field in operation.parameters.model_fields.items() if field.is_required()
        }
        assert set(request["required"]) == required_parameters | {operation.selector} - {None}


def test_chapters_and_operations_have_the_order_of_the_api_document(
    document: dict[str, Any],
) -> None:
    assert [tag["name"] for tag in document["tags"]] == [
        *("Registration", "Login", "Rooms", "Lists", "Friends", "Coins")
    ]
    schema_names = [name for name in document["components"]["schemas"] if name.endswith(".request")]
    assert schema_names[:4] == [
        *("send_code.request", "verify_code.request", "upload.request", "register.request")
    ]


def test_parameter_descriptions_are_in_english_and_chinese(
    declared_operations: list[Operation],
) -> None:
    for operation in declared_operations:
        for parameter in operation.parameters.describe():
            label = f"{operation.name} {parameter.name}"
            assert parameter.schema["description"].isascii(), label
            assert parameter.schema["description"], label
            assert parameter.schema["x-zh"], label


def test_examples_of_parameters_are_valid_values(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        for parameter, parameter_schema in schema.get("properties", {}).items():
            for example in parameter_schema.get("examples", []):
                is_valid = Draft202012Validator(parameter_schema).is_valid(example)
                assert is_valid, (name, parameter)


def test_document_lists_every_result_code_and_error_reason(document: dict[str, Any]) -> None:
    assert set(document["x-results"]) == {result.code for result in ResultCode}
    assert document["x-error-reasons"] == {
        reason.value: {"description": reason.english, "x-zh": reason.chinese}
        for reason in ErrorReason
    }
    assert list(document["x-error-reasons"]) == [reason.value for reason in ErrorReason]


@pytest.mark.parametrize(
    ("path", "form", "selected_operation"),
    [
        ("/register", {"token": PHONE}, "send_code"),
        ("/register", {"code_v": "1234", "code": "1234"}, "verify_code"),
        ("/register", {"code": ""}, "verify_code"),
        ("/register", {"register": "1", "userId": PHONE, "password": PASSWORD}, "register"),
        ("/register", {"register": "1", "code": "", "userId": PHONE, "password": PASSWORD}, None),
        ("/log", {"userId": PHONE, "password": PASSWORD}, "log_in"),
        ("/log", {"userId": PHONE, "forgot": "1", "password": "x"}, "forgot_password"),
        ("/list", {"token": "x", "friendlist": "1"}, "friendlist"),
        ("/list", {"token": "x"}, None),
        ("/list", {"token": "x", "friendlist": "1", "messagelist": "1"}, None),
        ("/friend", {"token": "x", "refill": "1", "money": 50}, "refill"),
        ("/friend", {"token": "x", "refill": "1", "money": 51}, None),
        ("/golden", {"token": "x", "refill": "1", "money": 100}, "refill"),
        ("/friend", {"token": "x", "search": "1", "userId": "138"}, None),
        ("/friend", {"token": "x", "search": "2", "userId": PHONE}, None),
    ],
)
def test_form_is_valid_if_it_matches_the_schema_of_one_operation(
    path: str, form: dict[str, Any], selected_operation: str | None, document: dict[str, Any]
) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    schema = content["application/x-www-form-urlencoded"]["schema"]
    assert Draft202012Validator(document | schema).is_valid(form) is (
        selected_operation is not None
    )
    if selected_operation:
        request_schema = {"$ref": f"#/components/schemas/{selected_operation}.request"}
        Draft202012Validator(document | request_schema).validate(form)


def test_phone_pattern_of_the_document_is_that_of_the_settings(new_app: Callable[..., App]) -> None:
    app = new_app(phones__pattern="9[0-9]{3}")
    schemas = json.loads(app.registry.pages["openapi.json"].body)["components"]["schemas"]
    assert schemas["add.request"]["properties"]["userId"]["pattern"] == "^(?:9[0-9]{3})$"
