"""Text that would break what is careless with it is text like any other."""

import json
from unittest.mock import ANY

import pytest

from tests.support.api import Person, Phone
from tests.support.database_state import AssertNoSideEffects, DatabaseState


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<script>alert(1)</script>", id="a script"),
        pytest.param('"}],"result":"9999', id="the end of the JSON"),
        pytest.param("'; DROP TABLE rooms; --", id="SQL"),
        pytest.param("%s %(id)s {0} ${x} :id", id="a template"),
        pytest.param("\\u0000 \\n \\", id="backslashes"),
        pytest.param("👩\u200d👩\u200d👧\u200d👦", id="a family of emoji"),
        pytest.param("ﷺ ﷽ Z͑ͫ̓ͪ̂ͫ̽", id="signs that pile up"),
        pytest.param("=1+1", id="a formula"),
        pytest.param("null", id="null"),
        pytest.param("\uffff\ufffe", id="no characters"),
    ],
)
def test_a_name_a_title_and_a_rose_are_kept_as_they_are_sent(
    text: str, phone_of_ann: Phone, ben: Person, database_state: DatabaseState
) -> None:
    ann = phone_of_ann.register(nickname=text)
    ann.befriend(ben)
    ann.refill("10")
    stream = json.loads(ann.live(title=text).message)
    assert text not in (stream["title"], stream["id"])
    assert ann.give(ben, "1", description=text).result == "0000"

    card = {"userId": ann.phone, "nickname": text, "gender": None, "headImage": None}
    assert ben.post("/friend", search="1", userId=ann.phone).message == card
    live = {**card, "liveStatus": "on", "title": text, "playUrl": ANY}
    assert ben.friends() == [live]
    assert ben.messages()[0]["nickname"] == text
    assert database_state.rows("gifts")[0]["description"] == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a\0b", id="NUL"),
        pytest.param("a\r\nb", id="a line's end"),
        pytest.param("a\x1b[2Jb", id="an order to a terminal"),
        pytest.param("a\x7fb", id="delete"),
        pytest.param("a\u0085b", id="another line's end"),
        pytest.param("a\u2028b", id="a line separator"),
        pytest.param("a\u202eb", id="a turn of the direction"),
        pytest.param("a\u2066b", id="an isolated direction"),
        pytest.param("x" * 10_000, id="10 kB"),
    ],
)
def test_what_no_screen_should_show_is_refused(
    text: str, ann: Person, ben: Person, assert_no_side_effects: AssertNoSideEffects
) -> None:
    ann.refill("10")
    with assert_no_side_effects():
        assert ann.post("/register", profile="1", nickname=text).result == "0006"
        assert ann.live(title=text).result == "0009"
        assert ann.give(ben, "1", description=text).result == "0013"
    assert ann.give(ben, "1").result == "0000"
