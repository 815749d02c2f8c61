"""Tests of invalid phone numbers in every operation that has a phone parameter."""

import pytest

from tests.support.api import PASSWORD, ApiClient, PhoneClient, UserClient
from tests.support.database_state import AssertNoSideEffects

GIFT_FORM = {"send_gift": "1", "value": "1", "description": "a rose"}
# Path, name of the phone parameter, other parameters, and the result for an invalid phone.
CALLS_WITH_PHONE = [
    ("/register", "token", {}, "0002"),
    ("/register", "userId", {}, "0002"),
    ("/register", "userId", {"register": "1", "password": PASSWORD}, "0006"),
    ("/log", "userId", {"password": PASSWORD}, "0007"),
    ("/log", "userId", {"forgot": "1"}, "0002"),
    ("/friend", "userId", {"search": "1", "token": "TOKEN"}, "0007"),
    ("/friend", "userId", {"add": "1", "token": "TOKEN"}, "0007"),
    ("/friend", "userId", {"delete": "1", "token": "TOKEN"}, "0006"),
    ("/golden", "object", {**GIFT_FORM, "token": "TOKEN"}, "0013"),
]


@pytest.mark.parametrize(
    "number",
    [
        pytest.param("1380000000", id="ten digits"),
        pytest.param("138000000011", id="twelve digits"),
        pytest.param("1380000000a", id="letter"),
        pytest.param("+8613800000001", id="country code"),
        pytest.param("8613800000001", id="country code without plus sign"),
        pytest.param("138 0000 0001", id="spaces"),
        pytest.param("138-0000-0001", id="hyphens"),
        pytest.param(" 13800000001", id="leading space"),
        pytest.param("13800000001\n", id="trailing line feed"),
        pytest.param("１３８０００００００１", id="full-width digits"),
        pytest.param("١٣٨٠٠٠٠٠٠٠١", id="Arabic digits"),
        pytest.param("𝟏𝟑𝟖𝟎𝟎𝟎𝟎𝟎𝟎𝟎𝟏", id="mathematical digits"),
        pytest.param("02345678901", id="begins with 0"),
        pytest.param("91380013800", id="begins with 9"),
        pytest.param("' OR 1=1--", id="SQL"),
        pytest.param("1' OR 1=1--", id="SQL of eleven characters"),
        pytest.param("1380000000\0", id="NUL"),
        pytest.param("1" * 60_000, id="60 kB"),
    ],
)  # fmt: skip
def test_invalid_phone_number_fails_in_every_operation_without_side_effects(
    number: str,
    api: ApiClient,
    ann: UserClient,
    phone_of_ben: PhoneClient,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    with assert_no_side_effects():
        for path, name, form, expected_result in CALLS_WITH_PHONE:
            filled_form = {**form, "token": ann.token} if "token" in form else form
            response = api.post(path, **{**filled_form, name: number})
            assert (response.status, response.result) == (200, expected_result), (path, name, form)
    ben = phone_of_ben.register()
    assert ann.send_friend_request(ben).result == "0000"
