"""Tests of texts with markup, control characters or excessive length."""

import json
from unittest.mock import ANY

import pytest

from tests.support.api import PhoneClient, UserClient
from tests.support.database_state import AssertNoSideEffects, DatabaseState


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<script>alert(1)</script>", id="HTML script"),
        pytest.param('"}],"result":"9999', id="end of a JSON string"),
        pytest.param("'; DROP TABLE rooms; --", id="SQL"),
        pytest.param("%s %(id)s {0} ${x} :id", id="format placeholders"),
        pytest.param("\\u0000 \\n \\", id="backslashes"),
        pytest.param("👩\u200d👩\u200d👧\u200d👦", id="joined emoji"),
        pytest.param("ﷺ ﷽ Z͑ͫ̓ͪ̂ͫ̽", id="ligatures and combining characters"),
        pytest.param("=1+1", id="spreadsheet formula"),
        pytest.param("null", id="JSON null"),
        pytest.param("a\uffff\ufffe", id="Unicode noncharacters"),
    ],
)
def test_nickname_title_and_gift_description_are_stored_as_sent(
    text: str, phone_of_ann: PhoneClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann = phone_of_ann.register(nickname=text)
    ann.befriend(ben)
    ann.refill("10")
    stream = json.loads(ann.go_live(title=text).message)
    assert text not in (stream["title"], stream["id"])
    assert ann.send_gift(ben, "1", description=text).result == "0000"

    profile = {"userId": ann.phone, "nickname": text, "gender": None, "headImage": None}
    assert ben.post("/friend", search="1", userId=ann.phone).message == profile
    live_profile = {**profile, "liveStatus": "on", "title": text, "playUrl": ANY}
    assert ben.friends() == [live_profile]
    assert ben.messages()[0]["nickname"] == text
    assert database_state.rows("gifts")[0]["description"] == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a\0b", id="NUL"),
        pytest.param("a\r\nb", id="CR LF"),
        pytest.param("a\x1b[2Jb", id="terminal escape sequence"),
        pytest.param("a\x7fb", id="DEL"),
        pytest.param("a\u0085b", id="NEL"),
        pytest.param("a\u2028b", id="line separator"),
        pytest.param("a\u202eb", id="right-to-left override"),
        pytest.param("a\u2066b", id="left-to-right isolate"),
        pytest.param("x" * 10_000, id="10 kB"),
    ],
)
def test_text_with_control_characters_or_10_kb_fails_without_side_effects(
    text: str, ann: UserClient, ben: UserClient, assert_no_side_effects: AssertNoSideEffects
) -> None:
    ann.refill("10")
    with assert_no_side_effects():
        assert ann.post("/register", profile="1", nickname=text).result == "0006"
        assert ann.go_live(title=text).result == "0009"
        assert ann.send_gift(ben, "1", description=text).result == "0013"
    assert ann.send_gift(ben, "1").result == "0000"
