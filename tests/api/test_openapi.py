"""/openapi.json is valid, says what was declared, and tells calls from what is none."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from livebackend.api.declaration import Operation, operations
from livebackend.api.error_reasons import Reason
from livebackend.api.result_codes import Result
from livebackend.api.routes import PATHS
from tests.support.api import PASSWORD, App, described

PHONE = "13800000001"


@pytest.fixture(scope="module")
def document(app: App) -> dict[str, Any]:
    return described(app.registry)


@pytest.fixture(scope="module")
def declared(app: App) -> list[Operation]:
    return operations(app.registry)


def test_it_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


def test_it_has_every_operation_on_every_path(
    document: dict[str, Any], declared: list[Operation]
) -> None:
    assert set(document["paths"]) == {f"/{path}" for path in PATHS}
    for path, methods in document["paths"].items():
        assert set(methods) == {"post"}
        here = {each.name for each in declared if path.removeprefix("/") in each.routes}
        assert set(methods["post"]["x-operations"]) == here
        for content in methods["post"]["requestBody"]["content"].values():
            refs = [each["$ref"] for each in content["schema"]["oneOf"]]
            assert sorted(refs) == sorted(f"#/components/schemas/{name}.request" for name in here)


def test_an_operation_is_described_as_it_was_declared(
    document: dict[str, Any], declared: list[Operation]
) -> None:
    for operation in declared:
        entry = document["paths"][f"/{operation.routes[0]}"]["post"]["x-operations"][operation.name]
        assert f"{entry['summary']} · {entry['x-zh']}" == operation.summary
        assert entry["x-extension"] is operation.extension
        assert entry["results"] == sorted(result.code for result in operation.results)
        request = document["components"]["schemas"][f"{operation.name}.request"]
        names = set(operation.params.model_fields) | {operation.selector} - {None}
        assert set(request["properties"]) == names
        if operation.selector:
            assert request["properties"][operation.selector] == {"const": "1"}
        required = {n for n, field in operation.params.model_fields.items() if field.is_required()}
        assert set(request["required"]) == required | {operation.selector} - {None}


def test_the_order_is_the_api_documents(document: dict[str, Any]) -> None:
    """Within a chapter; the chapters stand as their paths do there."""
    assert [tag["name"] for tag in document["tags"]] == [
        *("Registration", "Login", "Rooms", "Lists", "Friends", "Coins")
    ]
    names = [name for name in document["components"]["schemas"] if name.endswith(".request")]
    assert names[:4] == [
        *("send_code.request", "verify_code.request", "upload.request", "register.request")
    ]


def test_each_parameter_says_in_two_languages_what_it_is(declared: list[Operation]) -> None:
    for operation in declared:
        for parameter in operation.params.parameters():
            where = f"{operation.name} {parameter.name}"
            assert parameter.schema["description"].isascii(), where
            assert parameter.schema["description"], where
            assert parameter.schema["x-zh"], where


def test_each_example_is_a_good_value(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        for parameter, its_schema in schema.get("properties", {}).items():
            for example in its_schema.get("examples", []):
                good = Draft202012Validator(its_schema).is_valid(example)
                assert good, (name, parameter)


def test_every_code_and_reason_is_there(document: dict[str, Any]) -> None:
    assert set(document["x-results"]) == {result.code for result in Result}
    assert document["x-refusals"] == [reason.value for reason in Reason]


@pytest.mark.parametrize(
    ("path", "form", "selected"),
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
def test_a_form_is_one_operations_or_none(
    path: str, form: dict[str, Any], selected: str | None, document: dict[str, Any]
) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    schema = content["application/x-www-form-urlencoded"]["schema"]
    assert Draft202012Validator(document | schema).is_valid(form) is (selected is not None)
    if selected:
        own = {"$ref": f"#/components/schemas/{selected}.request"}
        Draft202012Validator(document | own).validate(form)


def test_the_phones_pattern_is_the_settings(new_app: Callable[..., App]) -> None:
    app = new_app(phones__pattern="9[0-9]{3}")
    schemas = json.loads(app.registry.pages["openapi.json"].body)["components"]["schemas"]
    assert schemas["add.request"]["properties"]["userId"]["pattern"] == "^(?:9[0-9]{3})$"
