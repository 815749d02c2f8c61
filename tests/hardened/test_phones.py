"""What looks like a phone number, or like nothing, at every call that takes one."""

import pytest

from tests.support.api import PASSWORD, Api, Person, Phone
from tests.support.database_state import AssertNoSideEffects

GIFT = {"send_gift": "1", "value": "1", "description": "a rose"}
# What each call says to a phone that is none.
CALLS = [
    ("/register", "token", {}, "0002"),
    ("/register", "userId", {}, "0002"),
    ("/register", "userId", {"register": "1", "password": PASSWORD}, "0006"),
    ("/log", "userId", {"password": PASSWORD}, "0007"),
    ("/log", "userId", {"forgot": "1"}, "0002"),
    ("/friend", "userId", {"search": "1", "token": "TOKEN"}, "0007"),
    ("/friend", "userId", {"add": "1", "token": "TOKEN"}, "0007"),
    ("/friend", "userId", {"delete": "1", "token": "TOKEN"}, "0006"),
    ("/golden", "object", {**GIFT, "token": "TOKEN"}, "0013"),
]


@pytest.mark.parametrize(
    "number",
    [
        pytest.param("1380000000", id="ten digits"),
        pytest.param("138000000011", id="twelve digits"),
        pytest.param("1380000000a", id="a letter"),
        pytest.param("+8613800000001", id="a country's code"),
        pytest.param("8613800000001", id="a country's code without its sign"),
        pytest.param("138 0000 0001", id="blanks"),
        pytest.param("138-0000-0001", id="hyphens"),
        pytest.param(" 13800000001", id="a blank before"),
        pytest.param("13800000001\n", id="a line's end after"),
        pytest.param("１３８０００００００１", id="full-width digits"),
        pytest.param("١٣٨٠٠٠٠٠٠٠١", id="Arabic digits"),
        pytest.param("𝟏𝟑𝟖𝟎𝟎𝟎𝟎𝟎𝟎𝟎𝟏", id="mathematical digits"),
        pytest.param("02345678901", id="it begins with 0"),
        pytest.param("91380013800", id="it begins with 9"),
        pytest.param("' OR 1=1--", id="SQL"),
        pytest.param("1' OR 1=1--", id="SQL of eleven signs"),
        pytest.param("1380000000\0", id="NUL"),
        pytest.param("1" * 60_000, id="60 kB"),
    ],
)  # fmt: skip
def test_what_is_no_phone_is_nobodys(
    number: str,
    api: Api,
    ann: Person,
    phone_of_ben: Phone,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    with assert_no_side_effects():
        for path, name, form, refusal in CALLS:
            filled = {**form, "token": ann.token} if "token" in form else form
            answer = api.post(path, **{**filled, name: number})
            assert (answer.status, answer.result) == (200, refusal), (path, name, form)
    ben = phone_of_ben.register()
    assert ann.add(ben).result == "0000"
