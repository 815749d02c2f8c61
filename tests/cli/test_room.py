"""`livebackend room` lists and closes rooms."""

from typing import Any

from livebackend.database.engine import Database
from tests.support.api import UserClient
from tests.support.commands import Operator
from tests.support.database_state import DatabaseState


def test_rooms_are_listed_newest_first_with_masked_phones(
    operator: Operator, ann: UserClient, ben: UserClient
) -> None:
    assert operator.run("room list").stdout == "there are no open rooms\n"
    ann.go_live(title="hello")
    ben.go_live()
    rooms = operator.run_json("room list")["rooms"]
    assert [room["nickname"] for room in rooms] == ["Ben", "Ann"]
    assert rooms[1]["phone"] == "138****0001"
    text = operator.run("room list").stdout
    assert text.splitlines()[0].split() == ["room", "state", "since", "(UTC)", "phone", "title"]
    assert "138****0001  hello" in text
    assert ann.phone not in text
    assert len(operator.run_json("room list", "--limit", "1")["rooms"]) == 1


def test_room_close_ends_the_room_for_its_host_and_for_friends(
    operator: Operator, ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.befriend(ben)
    ann.go_live()
    (room,) = operator.run_json("room list")["rooms"]
    assert operator.run_json("room close", str(room["id"])) == {
        "id": room["id"],
        "publisher_disconnected": True,
    }
    assert ben.friends()[0]["liveStatus"] == "off"
    assert ann.post("/room", leave="1").result == "0009"
    assert [row["close_reason"] for row in database_state.rows("rooms")] == ["operator"]
    assert operator.run_json("room list")["rooms"] == []


def test_closing_a_room_that_is_not_open_is_an_error(operator: Operator, ann: UserClient) -> None:
    ann.go_live()
    (room,) = operator.run_json("room list")["rooms"]
    ann.post("/room", leave="1")
    for room_id in (str(room["id"]), "987654321"):
        error = operator.run_json("room close", room_id, code=1)["error"]
        assert error == f"room {room_id} is not open"
    operator.run("room close", "first", code=2)


def test_room_that_is_opening_can_be_closed(
    operator: Operator, ann: UserClient, database: Database, database_state: DatabaseState
) -> None:
    account_id = operator.run_json("user show", ann.phone)["id"]
    with database.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO rooms (account_id, stream_key, publish_key) VALUES (%s, 'key', 'secret')",
            (account_id,),
        )
    (room,) = operator.run_json("room list")["rooms"]
    assert room["state"] == "opening"
    operator.run("room close", str(room["id"]))
    assert [row["close_reason"] for row in database_state.rows("rooms")] == ["operator"]


def test_room_closes_even_if_the_provider_fails_and_the_failure_is_reported(
    operator: Operator, ann: UserClient
) -> None:
    ann.go_live()
    (room,) = operator.run_json("room list")["rooms"]
    failing_provider: dict[str, Any] = {
        "streams_gateway": "tests.support.fake_gateways.FailingStreams"
    }
    text = operator.run("room close", str(room["id"]), **failing_provider).stdout
    assert "the provider failed to disable its stream" in text
    assert operator.run_json("room list")["rooms"] == []
