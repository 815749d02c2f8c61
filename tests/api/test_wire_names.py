"""Tests that the API has the names and result codes of the API document.

This module imports nothing from the application: renaming something in the application
must not rename it in the tests.
"""

from typing import Any

import pytest
from webtest import TestApp

# Operations of the API document: path, parameters (the selector first, optional ones in
# brackets), result codes.
OPERATIONS = [
    ("/register", "token", "0000 0001 0002"),
    ("/register", "code_v code", "0000 0004 0005"),
    ("/upload", "img", "0000 0006"),
    ("/register", "register userId password [headImage] [gender] [nickname]", "0000 0006"),
    ("/log", "userId password [expire_in]", "0000 0007 0008"),
    ("/log", "logout token", "0000 0006 0011 0012"),
    ("/room", "live token", "0000 0009 0011 0012"),
    ("/room", "leave token", "0000 0009 0011 0012"),
    ("/list", "friendlist token", "0000 0006 0011 0012"),
    ("/list", "messagelist token", "0000 0006 0011 0012"),
    ("/friend", "search token userId", "0000 0006 0007 0011 0012"),
    ("/friend", "add token userId", "0000 0006 0007 0010 0011 0012"),
    ("/friend", "dealMessage token userId verifyId objectId behaviour", "0000 0006 0011 0012"),
    ("/golden", "refill token money", "0000 0011 0012 0013"),
    ("/golden", "send_gift token value object description", "0000 0011 0012 0013"),
]
# Parameters that this server adds; `userId` can replace `token` when requesting a code.
ADDED_PARAMETERS = {"userId", "title", "requestId"}


@pytest.fixture(scope="module")
def served_operations(app: Any) -> list[tuple[str, set[str], set[str], str]]:
    """Tuples (path, required parameters, optional parameters, result codes)."""
    document = TestApp(app).get("/openapi-operations.json").json
    operation_rows = []
    for path, methods in document["paths"].items():
        operation = methods["post"]
        (content,) = operation["requestBody"]["content"].values()
        request = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        required = set(request["required"])
        optional = set(request["properties"]) - required
        codes = " ".join(["0000", *operation["x-errors"]])
        operation_rows.append((path.partition("#")[0], required, optional, codes))
    return operation_rows


@pytest.mark.parametrize(("path", "parameters", "codes"), OPERATIONS)
def test_operation_has_the_path_parameters_and_result_codes_of_the_api_document(
    path: str,
    parameters: str,
    codes: str,
    served_operations: list[tuple[str, set[str], set[str], str]],
) -> None:
    parameter_names = parameters.split()
    required = {name for name in parameter_names if not name.startswith("[")}
    optional = {name.strip("[]") for name in parameter_names} - required
    assert any(
        (path, codes) == (served_path, served_codes)
        and required <= served_required | served_optional
        and served_required <= required
        and optional <= served_optional <= optional | required | ADDED_PARAMETERS
        for served_path, served_required, served_optional, served_codes in served_operations
    )


def test_responses_have_the_keys_of_the_api_document(ann: Any, ben: Any) -> None:
    ann.befriend(ben)
    friends_body = ann.post("/list", friendlist="1").body
    assert friends_body.keys() == {"result", "message"}
    assert friends_body["message"].keys() == {"count", "friends"}
    assert friends_body["message"]["friends"][0].keys() == {
        *("userId", "nickname", "gender", "headImage", "liveStatus", "title", "playUrl"),
    }
    (message,) = ann.post("/list", messagelist="1").body["message"]
    assert message.keys() == {
        *("verifyId", "objectId", "userId", "nickname", "gender", "headImage", "flag", "time"),
    }
    search_body = ann.post("/friend", search="1", userId=ben.phone).body
    assert search_body.keys() == {"result", "message", "flag"}
    assert search_body["message"].keys() == {"userId", "nickname", "gender", "headImage"}


def test_failed_coin_operation_has_the_message_of_the_api_document(ann: Any) -> None:
    response = ann.post("/golden", refill="1", money="11")
    assert response.body == {"result": "0013", "message": "update failed"}
