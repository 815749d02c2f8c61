"""`livebackend room`: who is live, and ending it."""

from typing import Any

from tests.support.api import Person
from tests.support.commands import Operator
from tests.support.database_state import DatabaseState


def test_the_latest_come_first_and_phones_are_masked(
    operator: Operator, ann: Person, ben: Person
) -> None:
    assert operator.runs("room list").stdout == "nobody is live\n"
    ann.live(title="hello")
    ben.live()
    rooms = operator.reads("room list")["rooms"]
    assert [room["nickname"] for room in rooms] == ["Ben", "Ann"]
    assert rooms[1]["phone"] == "138****0001"
    words = operator.runs("room list").stdout
    assert words.splitlines()[0].split() == ["room", "state", "since", "(UTC)", "phone", "title"]
    assert "138****0001  hello" in words
    assert ann.phone not in words
    assert len(operator.reads("room list", "--most", "1")["rooms"]) == 1


def test_a_closed_room_is_closed_for_everyone(
    operator: Operator, ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    ann.befriend(ben)
    ann.live()
    (room,) = operator.reads("room list")["rooms"]
    assert operator.reads("room close", str(room["id"])) == {
        "id": room["id"],
        "publisher_cut_off": True,
    }
    assert ben.friends()[0]["liveStatus"] == "off"
    assert ann.post("/room", leave="1").result == "0009"
    assert [row["close_reason"] for row in database_state.rows("rooms")] == ["operator"]
    assert operator.reads("room list")["rooms"] == []


def test_a_room_that_is_not_open_is_a_finding(operator: Operator, ann: Person) -> None:
    ann.live()
    (room,) = operator.reads("room list")["rooms"]
    ann.post("/room", leave="1")
    for number in (str(room["id"]), "987654321"):
        error = operator.reads("room close", number, code=1)["error"]
        assert error == f"room {number} is not open"
    operator.runs("room close", "first", code=2)


def test_a_provider_that_fails_is_told(operator: Operator, ann: Person) -> None:
    ann.live()
    (room,) = operator.reads("room list")["rooms"]
    failing: dict[str, Any] = {"streams_gateway": "tests.support.fake_gateways.FailingStreams"}
    words = operator.runs("room close", str(room["id"]), **failing).stdout
    assert "its stream is still to be disabled" in words
    assert operator.reads("room list")["rooms"] == []
