"""The operations that cause events, and the events that their users receive."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from livebackend.container import Services
from livebackend.database.engine import Database
from livebackend.events.declarations import EVENTS, Field
from livebackend.gateways.streams import StreamFailed
from tests.support.api import PASSWORD, ApiClient, App, UserClient
from tests.support.commands import Operator
from tests.support.database_state import DatabaseState
from tests.support.live_events import (
    account_id,
    check_event,
    number_events,
    open_channels,
    public_id,
)


def schema(fields: tuple[Field, ...]) -> dict[str, Any]:
    """Return the JSON Schema of an object with declared fields."""
    properties: dict[str, Any] = {}
    for field in fields:
        types = [field.type, "null"] if field.nullable else [field.type]
        properties[field.name] = {"type": types}
        if field.values:
            nullable_values = [*field.values, *([None] if field.nullable else [])]
            properties[field.name]["enum"] = nullable_values
        if field.fields:
            properties[field.name] |= schema(field.fields)
    return {
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@pytest.fixture
def read_events(database: Database) -> Callable[[], list[dict[str, Any]]]:
    """Function that numbers and returns all events, and compares them with the declarations.

    They must also match the AsyncAPI document.
    """

    def read() -> list[dict[str, Any]]:
        events = number_events(database)
        for event in events:
            assert set(event) == {"v", "type", "channel", "seq", "time", "data"}
            assert event["v"] == 1
            age = datetime.now(UTC) - datetime.fromisoformat(event["time"])
            assert timedelta() <= age < timedelta(minutes=1)
            Draft202012Validator(schema(EVENTS[event["type"]].fields)).validate(event["data"])
            check_event(event)
        return events

    return read


ReadEvents = Callable[[], list[dict[str, Any]]]


def type_and_channel(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["channel"]) for event in events]


class TestFriends:
    def test_friend_request_reaches_the_addressee_without_a_phone_number(
        self, ann: UserClient, ben: UserClient, database: Database, read_events: ReadEvents
    ) -> None:
        _, channel_of_ben = open_channels(database, ann, ben)
        ann.send_friend_request(ben)
        (event,) = read_events()
        assert type_and_channel([event]) == [("friend_request", channel_of_ben)]
        assert event["seq"] == 1
        assert event["data"]["user"] == {
            "publicId": public_id(database, ann),
            "nickname": "Ann",
            "gender": None,
            "headImage": None,
        }
        assert ann.phone not in orjson.dumps(event).decode()

    def test_repeated_friend_request_causes_one_event(
        self, ann: UserClient, ben: UserClient, database: Database, read_events: ReadEvents
    ) -> None:
        open_channels(database, ben)
        ann.send_friend_request(ben)
        ann.send_friend_request(ben)
        assert len(read_events()) == 1

    def test_request_of_a_blocked_user_causes_no_event(
        self,
        ann: UserClient,
        ben: UserClient,
        database: Database,
        database_state: DatabaseState,
    ) -> None:
        open_channels(database, ben)
        ben.post("/friend", block="1", userId=ann.phone)
        assert ann.send_friend_request(ben).result == "0000"
        assert database_state.rows("outbox_events") == []

    def test_user_who_is_blocked_after_the_request_causes_no_event(
        self, ann: UserClient, ben: UserClient, database: Database, read_events: ReadEvents
    ) -> None:
        open_channels(database, ben)
        ann.send_friend_request(ben)
        ben.post("/friend", block="1", userId=ann.phone)
        assert read_events() == []

    def test_accepted_request_reaches_the_applicant(
        self, ann: UserClient, ben: UserClient, database: Database, read_events: ReadEvents
    ) -> None:
        channel_of_ann, _ = open_channels(database, ann, ben)
        ann.befriend(ben)
        _, event = read_events()
        assert type_and_channel([event]) == [("friend_accepted", channel_of_ann)]
        assert event["data"]["user"]["userId"] == ben.phone

    def test_requests_in_both_directions_reach_the_first_applicant_as_accepted(
        self, ann: UserClient, ben: UserClient, database: Database, read_events: ReadEvents
    ) -> None:
        channels = open_channels(database, ann, ben)
        ann.send_friend_request(ben)
        ben.send_friend_request(ann)
        assert type_and_channel(read_events()) == [
            ("friend_request", channels[1]),
            ("friend_accepted", channels[0]),
        ]

    def test_friendship_that_ended_meanwhile_reveals_no_phone_number(
        self, ann: UserClient, ben: UserClient, database: Database, read_events: ReadEvents
    ) -> None:
        open_channels(database, ann)
        ann.befriend(ben)
        ben.post("/friend", delete="1", userId=ann.phone)
        assert read_events() == []

    def test_refused_request_causes_no_event(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.befriend(ben)
        count = len(database_state.rows("outbox_events"))
        assert ann.send_friend_request(ben).result == "0010"
        assert len(database_state.rows("outbox_events")) == count


class TestRooms:
    def test_friends_learn_that_a_host_goes_live_and_leaves(
        self,
        ann: UserClient,
        ben: UserClient,
        cat: UserClient,
        database: Database,
        read_events: ReadEvents,
    ) -> None:
        ann.befriend(ben)
        ann.befriend(cat)
        number_events(database)
        _, *channels = open_channels(database, ann, ben, cat)
        ann.go_live(title="hello")
        events = read_events()
        assert type_and_channel(events) == [("friend_live", name) for name in channels]
        (friend,) = ben.friends()
        assert events[0]["data"] == {
            "user": {name: friend[name] for name in ("userId", "nickname", "gender", "headImage")},
            "title": "hello",
            "playUrl": friend["playUrl"],
        }
        ann.post("/room", leave="1")
        events = read_events()
        assert type_and_channel(events) == [("friend_left", name) for name in channels]
        assert events[0]["data"]["user"]["userId"] == ann.phone

    def test_going_live_writes_one_row_for_any_number_of_friends(
        self, api: ApiClient, ann: UserClient, database: Database, database_state: DatabaseState
    ) -> None:
        host_id = account_id(database, ann)
        database_state.execute(
            f"""
            WITH friend AS (
                INSERT INTO accounts (phone, password_hash)
                SELECT (13900000000 + n)::text, 'x' FROM generate_series(1, 5000) AS n RETURNING id
            ), channel AS (
                INSERT INTO event_channels (name) SELECT 'user.' || id FROM friend
            )
            INSERT INTO friendships (account_id, friend_id)
            SELECT {host_id}, id FROM friend UNION ALL SELECT id, {host_id} FROM friend
            """
        )
        ann.go_live()
        (row,) = database_state.rows("outbox_events")
        assert (row["type"], row["account_id"]) == ("friend_live", host_id)
        events = number_events(database)
        assert len(events) == len({event["channel"] for event in events}) == 5000
        assert {event["seq"] for event in events} == {1}

    def test_host_who_is_live_already_causes_no_event(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        ann.go_live()
        ann.go_live()
        assert len(database_state.rows("outbox_events")) == 1

    def test_room_that_ended_before_its_event_is_not_announced_as_live(
        self, ann: UserClient, ben: UserClient, database: Database, read_events: ReadEvents
    ) -> None:
        ann.befriend(ben)
        number_events(database)
        open_channels(database, ben)
        ann.go_live()
        ann.post("/room", leave="1")
        assert [event["type"] for event in read_events()] == ["friend_left"]

    def test_room_that_housekeeping_closes_causes_an_event(
        self,
        ann: UserClient,
        services: Services,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ann.go_live()
        monkeypatch.setattr(services.gateways.streams, "live_publishers", lambda _: {})
        database_state.execute("UPDATE rooms SET offline_since = now() - interval '1 hour'")
        assert services.stream_monitor.check_rooms().closed == 1
        types = [row["type"] for row in database_state.rows("outbox_events")]
        assert types == ["friend_live", "friend_left"]

    def test_room_whose_stream_was_not_created_causes_no_event(
        self,
        ann: UserClient,
        services: Services,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(key: str, publish_key: str) -> None:
            raise StreamFailed("the provider is unavailable")

        monkeypatch.setattr(services.gateways.streams, "create", fail)
        assert ann.go_live().result == "0009"
        assert database_state.rows("outbox_events") == []

    def test_blocked_friend_receives_no_event(
        self,
        ann: UserClient,
        ben: UserClient,
        database: Database,
        database_state: DatabaseState,
        read_events: ReadEvents,
    ) -> None:
        ann.befriend(ben)
        number_events(database)
        open_channels(database, ben)
        blocker_id, blocked_id = account_id(database, ann), account_id(database, ben)
        # A block normally ends the friendship; this one does not.
        database_state.execute(f"INSERT INTO blocks VALUES ({blocker_id}, {blocked_id})")
        ann.go_live()
        assert read_events() == []


class TestCoins:
    def test_gift_reaches_giver_and_host_with_their_balances(
        self, ann: UserClient, ben: UserClient, database: Database, read_events: ReadEvents
    ) -> None:
        ann.refill("100")
        number_events(database)
        channels = open_channels(database, ann, ben)
        ann.send_gift(ben, "30")
        events = {event["channel"]: event for event in read_events()}
        data = [events[name]["data"] for name in channels]
        assert [(entry["change"], entry["balance"]) for entry in data] == [(-30, 70), (30, 30)]
        (record, *_) = ann.post("/golden", records="1").message["records"]
        assert {entry["transferId"] for entry in data} == {record["id"]}
        assert {entry["kind"] for entry in data} == {"gift"}

    def test_refill_and_reversal_reach_the_user(
        self,
        ann: UserClient,
        ben: UserClient,
        services: Services,
        database: Database,
        read_events: ReadEvents,
    ) -> None:
        (channel,) = open_channels(database, ann)
        ann.refill("50")
        ann.send_gift(ben, "20")
        (record, *_) = ann.post("/golden", records="1").message["records"]
        services.reversals.reverse(record["id"], reason="by mistake")
        events = read_events()
        assert [(event["seq"], event["data"]["kind"]) for event in events] == [
            (1, "refill"),
            (2, "gift"),
            (3, "reversal"),
        ]
        assert {event["channel"] for event in events} == {channel}
        assert [event["data"]["change"] for event in events] == [50, -20, 20]
        # The balance is that of the time at which the event is numbered.
        assert [event["data"]["balance"] for event in events] == [50, 50, 50]

    def test_retried_gift_causes_one_event(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.refill("50")
        for _ in range(2):
            assert ann.send_gift(ben, "5", requestId="same").result == "0000"
        assert len(database_state.rows("outbox_events")) == 2

    def test_rejected_gift_causes_no_event(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        assert ann.send_gift(ben, "5").result == "0013"
        assert database_state.rows("outbox_events") == []


class TestAccounts:
    def test_disabled_account_receives_its_last_event(
        self, operator: Operator, ann: UserClient, database: Database, read_events: ReadEvents
    ) -> None:
        (channel,) = open_channels(database, ann)
        for _ in range(2):
            operator.run("user disable", ann.phone)
        (event,) = read_events()
        assert type_and_channel([event]) == [("account_disabled", channel)]
        assert event["data"] == {}

    @pytest.mark.parametrize(
        "end_access",
        [
            lambda ann, _: ann.post("/log", logout="1"),
            lambda ann, _: ann.post(
                "/log", change="1", oldPassword=PASSWORD, password="another-harbour-7"
            ),
            lambda ann, _: ann.post("/register", remove="1", password=PASSWORD),
            lambda ann, operator: operator.run("user revoke", ann.phone),
            lambda ann, operator: operator.run("user reset-password", ann.phone),
        ],
        ids=["logout", "password change", "removal", "revoke", "reset-password"],
    )
    def test_revoked_login_token_ends_the_connections(
        self,
        end_access: Callable[[UserClient, Operator], Any],
        operator: Operator,
        ann: UserClient,
        database: Database,
        read_events: ReadEvents,
    ) -> None:
        (channel,) = open_channels(database, ann)
        end_access(ann, operator)
        (event,) = read_events()
        assert type_and_channel([event]) == [("login_revoked", channel)]
        assert EVENTS["login_revoked"].closes_channel

    def test_new_password_of_a_user_who_forgot_it_ends_the_connections(
        self, ann: UserClient, api: ApiClient, database: Database, read_events: ReadEvents
    ) -> None:
        (channel,) = open_channels(database, ann)
        code = api.post("/log", forgot="1", userId=ann.phone).message
        form = {"code_v": code, "code": code, "password": "another-harbour-7"}
        assert api.post("/log", reset="1", userId=ann.phone, **form).result == "0000"
        (event,) = read_events()
        assert type_and_channel([event]) == [("login_revoked", channel)]

    def test_warned_user_receives_the_text(
        self, operator: Operator, ann: UserClient, database: Database, read_events: ReadEvents
    ) -> None:
        open_channels(database, ann)
        operator.run("user warn", ann.phone, "No “ads”")
        (event,) = read_events()
        assert event["data"] == {"text": "No “ads”"}

    @pytest.mark.parametrize("text", ["", "x" * 201, "two\nlines"])
    def test_warning_with_an_invalid_text_is_refused(
        self, text: str, operator: Operator, ann: UserClient
    ) -> None:
        operator.run("user warn", ann.phone, text, code=2)

    def test_warning_without_live_events_is_refused(
        self, operator: Operator, ann: UserClient
    ) -> None:
        operator.run("user warn", ann.phone, "No ads", code=1, events_gateway="")

    def test_removed_account_receives_no_event_after_its_removal(
        self, ann: UserClient, ben: UserClient, database: Database
    ) -> None:
        open_channels(database, ann)
        ben.send_friend_request(ann)
        assert ann.post("/register", remove="1", password=PASSWORD).result == "0000"
        assert ben.send_friend_request(ann).result != "0000"
        # The event that closes the channel does not wait for the others.
        event_types = [event["type"] for event in number_events(database)]
        assert event_types == ["login_revoked", "friend_request"]

    def test_request_of_a_removed_account_causes_no_event(
        self, ann: UserClient, ben: UserClient, database: Database
    ) -> None:
        open_channels(database, ann)
        ben.send_friend_request(ann)
        assert ben.post("/register", remove="1", password=PASSWORD).result == "0000"
        assert number_events(database) == []


def test_nothing_is_written_without_an_event_gateway(
    new_app: Callable[..., App], ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    app = new_app(events__gateway="")
    ann, ben = ann.with_app(app), ben.with_app(app)
    ann.befriend(ben)
    ann.refill("10")
    ann.send_gift(ben, "5")
    ann.go_live()
    ann.post("/room", leave="1")
    assert database_state.rows("outbox_events") == []
