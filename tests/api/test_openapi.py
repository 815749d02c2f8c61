"""The OpenAPI document is valid and matches the declarations of the operations."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.openapi.schemas import schema_name
from livebackend.api.operation_declaration import Operation, operations
from livebackend.api.result_codes import ResultCode
from livebackend.api.routes import PATHS
from tests.support.api import PASSWORD, App, openapi_document

PHONE = "13800000001"
REGISTRATION = {"register": "1", "userId": PHONE, "password": PASSWORD}


@pytest.fixture(scope="module")
def by_path(app: App) -> dict[str, Any]:
    return openapi_document(app.registry)


@pytest.fixture(scope="module")
def by_operation(app: App) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(app.registry.pages["openapi-operations.json"].body)
    return document


@pytest.fixture(scope="module")
def declared_operations(app: App) -> list[Operation]:
    return operations(app.registry)


def request_schema(document: dict[str, Any], operation: Operation) -> dict[str, Any]:
    schema: dict[str, Any] = document["components"]["schemas"][schema_name(operation, "Request")]
    return schema


def test_documents_are_valid_openapi(by_path: dict[str, Any], by_operation: dict[str, Any]) -> None:
    for document in (by_path, by_operation):
        assert document["openapi"] == "3.1.0"
        OpenAPIV31SpecValidator(document).validate()


def test_documents_are_small(app: App) -> None:
    for name in ("openapi.json", "openapi-operations.json"):
        assert len(app.registry.pages[name].body) < 300_000


def test_path_has_the_forms_and_responses_of_its_operations(
    by_path: dict[str, Any], declared_operations: list[Operation]
) -> None:
    assert set(by_path["paths"]) == {f"/{path}" for path in PATHS}
    for path, methods in by_path["paths"].items():
        names = [
            schema_name(operation, "")
            for operation in declared_operations
            if path.removeprefix("/") in operation.routes
        ]
        (content,) = methods["post"]["requestBody"]["content"].values()
        forms = json.dumps(content["schema"])
        responses = json.dumps(methods["post"]["responses"]["200"])
        assert sorted(re.findall(r"schemas/(\w+)Request", forms)) == sorted(names)
        assert sorted(re.findall(r"schemas/(\w+)Response", responses)) == sorted(names)


def test_operation_has_a_path_of_its_own_with_a_fragment(
    by_operation: dict[str, Any], declared_operations: list[Operation]
) -> None:
    assert set(by_operation["paths"]) == {
        f"/{operation.routes[0]}#{operation.name}" for operation in declared_operations
    }


def test_description_of_an_operation_matches_its_declaration(
    by_operation: dict[str, Any], declared_operations: list[Operation]
) -> None:
    for operation in declared_operations:
        post = by_operation["paths"][f"/{operation.routes[0]}#{operation.name}"]["post"]
        assert post["operationId"] == operation.name
        assert (post["summary"], post["x-zh"]) == operation.title
        assert (post["description"], post["x-zh-description"]) == operation.description
        assert post["x-extension"] is (not operation.documented)
        assert set(post["x-errors"]) == {
            result.code for result in operation.result_codes - {ResultCode.OK}
        }
        (media_type,) = post["requestBody"]["content"]
        assert ("multipart" in media_type) is (operation.name == "upload")
        request = request_schema(by_operation, operation)
        parameter_names = set(operation.parameters.model_fields) | {operation.selector} - {None}
        assert set(request["properties"]) == parameter_names
        if operation.selector:
            assert request["properties"][operation.selector]["const"] == "1"


def test_sections_and_operations_have_the_order_of_the_api_document(
    by_operation: dict[str, Any],
) -> None:
    assert [tag["name"] for tag in by_operation["tags"]] == [
        *("Registration", "Login", "Rooms", "Lists", "Friends", "Coins", "Live events")
    ]
    assert [path.partition("#")[2] for path in by_operation["paths"]][:4] == [
        *("send_code", "verify_code", "upload", "register")
    ]


def test_examples_are_valid_responses(by_operation: dict[str, Any]) -> None:
    for methods in by_operation["paths"].values():
        content = methods["post"]["responses"]["200"]["content"]["application/json"]
        validator = Draft202012Validator(by_operation | content["schema"])
        for example in content["examples"].values():
            validator.validate(example["value"])
        assert content["examples"]["success"]["value"]["result"] == "0000"
        assert content["examples"]["error"]["value"]["result"] != "0000"


def test_every_field_has_a_description_in_english_and_chinese(
    by_operation: dict[str, Any],
) -> None:
    for name, schema in by_operation["components"]["schemas"].items():
        assert schema["description"].isascii(), name
        if name.startswith("Error") or name.endswith("Request"):
            continue
        for field, field_schema in schema["properties"].items():
            if field in ("result", "message"):
                continue
            assert field_schema["description"].isascii(), (name, field)
            assert not field_schema["x-zh"].isascii(), (name, field)


def test_parameter_descriptions_are_in_english_and_chinese(
    declared_operations: list[Operation],
) -> None:
    for operation in declared_operations:
        for parameter in operation.parameters.describe():
            label = f"{operation.name} {parameter.name}"
            assert parameter.schema["description"].isascii(), label
            assert parameter.schema["description"], label
            assert parameter.schema["x-zh"], label


def test_examples_of_fields_are_valid_values(by_path: dict[str, Any]) -> None:
    for name, schema in by_path["components"]["schemas"].items():
        for parameter, parameter_schema in schema.get("properties", {}).items():
            for example in parameter_schema.get("examples", []):
                is_valid = Draft202012Validator(by_path | parameter_schema).is_valid(example)
                assert is_valid, (name, parameter)


def test_document_lists_every_result_code_and_error_reason(by_path: dict[str, Any]) -> None:
    assert set(by_path["x-results"]) == {result.code for result in ResultCode}
    assert by_path["x-error-reasons"] == {
        reason.value: {"description": reason.english, "x-zh": reason.chinese}
        for reason in ErrorReason
    }
    assert list(by_path["x-error-reasons"]) == [reason.value for reason in ErrorReason]


@pytest.mark.parametrize(
    ("path", "form", "selected_operation"),
    [
        ("/register", {"token": PHONE}, "send_code"),
        ("/register", {"code_v": "1234", "code": "1234"}, "verify_code"),
        ("/register", {"code": ""}, None),
        ("/register", REGISTRATION, "register"),
        ("/register", {**REGISTRATION, "code_v": "1234", "code": "1234"}, None),
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
    path: str,
    form: dict[str, Any],
    selected_operation: str | None,
    by_path: dict[str, Any],
    declared_operations: list[Operation],
) -> None:
    (content,) = by_path["paths"][path]["post"]["requestBody"]["content"].values()
    assert Draft202012Validator(by_path | content["schema"]).is_valid(form) is (
        selected_operation is not None
    )
    if selected_operation:
        (operation,) = [item for item in declared_operations if item.name == selected_operation]
        Draft202012Validator(by_path | request_schema(by_path, operation)).validate(form)


def test_phone_pattern_of_the_document_is_that_of_the_settings(new_app: Callable[..., App]) -> None:
    app = new_app(phones__pattern="9[0-9]{3}")
    schemas = json.loads(app.registry.pages["openapi.json"].body)["components"]["schemas"]
    assert schemas["AddRequest"]["properties"]["userId"]["pattern"] == "^(?:9[0-9]{3})$"
