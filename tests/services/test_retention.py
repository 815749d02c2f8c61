"""Retention deletes old rows in batches, and keeps all rows that are still needed."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from livebackend.database.engine import Database
from livebackend.services.retention import Retention
from tests.support.api import ApiClient, App, UserClient
from tests.support.database_state import DatabaseState
from tests.support.payments import PaymentScenario, new_payment_scenario

DAY = timedelta(days=1)


@pytest.fixture
def retention(database: Database) -> Retention:
    return Retention(database, rooms=DAY, unpaid_orders=DAY, messages=DAY, codes=DAY)


@pytest.fixture
def payments(new_app: Callable[..., App], database_state: DatabaseState) -> PaymentScenario:
    return new_payment_scenario(new_app, database_state)


def insert_room(database_state: DatabaseState, *, closed_at: str, disabled_at: str) -> None:
    database_state.execute(
        "INSERT INTO rooms (account_id, state, stream_key, publish_key, closed_at, close_reason,"
        " disabled_at) SELECT min(id), 'closed', gen_random_uuid(), 'x',"
        f" now() - interval '{closed_at}', 'left', {disabled_at} FROM accounts"
    )


def test_old_closed_room_is_deleted_after_its_stream_is_disabled(
    retention: Retention, ann: UserClient, database_state: DatabaseState
) -> None:
    ann.go_live()
    insert_room(database_state, closed_at="25 hours", disabled_at="now()")
    insert_room(database_state, closed_at="23 hours", disabled_at="now()")
    insert_room(database_state, closed_at="25 hours", disabled_at="NULL")
    assert retention.delete_old_rows() == 1
    kept_rooms = [(row["state"], row["disabled_at"]) for row in database_state.rows("rooms")]
    assert sorted((state, bool(time)) for state, time in kept_rooms) == [
        ("closed", False),
        ("closed", True),
        ("open", False),
    ]


def test_gift_keeps_its_record_after_its_room_is_deleted(
    retention: Retention, ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.refill("10")
    ben.go_live()
    assert ann.send_gift(ben, "1").result == "0000"
    assert ben.post("/room", leave="1").result == "0000"
    database_state.execute("UPDATE rooms SET closed_at = closed_at - interval '2 days'")
    assert retention.delete_old_rows() == 1
    records = ben.post("/golden", records="1").message["records"]
    assert [record["description"] for record in records] == ["a rose"]


def test_unpaid_orders_are_deleted_and_paid_orders_are_kept(
    retention: Retention,
    payments: PaymentScenario,
    ann: UserClient,
    database_state: DatabaseState,
) -> None:
    paid_order, pending_order, closed_order = (payments.order(ann) for _ in range(3))
    assert payments.notify(payments.payment(paid_order)) == 204
    database_state.execute(
        "UPDATE payment_orders SET state = 'closed', next_query_at = NULL"
        f" WHERE order_id = '{closed_order}'"
    )
    assert retention.delete_old_rows() == 0
    payments.age_orders("2 days")
    recent_order = payments.order(ann)
    # A gateway still queries this old order.
    queried_order = payments.order(ann)
    database_state.execute(
        "UPDATE payment_orders SET created_at = created_at - interval '2 days'"
        f" WHERE order_id = '{queried_order}'"
    )
    assert retention.delete_old_rows() == 2
    kept_orders = {row["order_id"] for row in database_state.rows("payment_orders")}
    assert kept_orders == {paid_order, recent_order, queried_order}
    assert pending_order not in kept_orders
    assert database_state.coins(ann) == 10


def test_old_friend_request_is_deleted_and_the_friendship_stays(
    retention: Retention,
    ann: UserClient,
    ben: UserClient,
    cat: UserClient,
    database_state: DatabaseState,
) -> None:
    ann.befriend(ben)
    (old_message,) = ben.messages()
    database_state.execute("UPDATE friend_requests SET sent_at_us = sent_at_us - 90000000000")
    cat.send_friend_request(ben)
    assert retention.delete_old_rows() == 1
    assert [message["userId"] for message in ben.messages()] == [cat.phone]
    assert ann.messages() == []
    assert [friend["userId"] for friend in ann.friends()] == [ben.phone]
    # A repeated accept of the deleted request still succeeds.
    assert ben.deal_message(old_message, "accept").result == "0000"


def test_rows_without_effect_are_deleted(
    retention: Retention, database_state: DatabaseState
) -> None:
    for age, is_kept in (("2 hours", True), ("25 hours", False)):
        database_state.execute(
            "INSERT INTO verification_codes (id, phone, digest, expires_at) VALUES"
            f" (gen_random_uuid(), '13800000001', '', now() - interval '{age}')"
        )
        assert retention.delete_old_rows() == (not is_kept)
    for interval, deleted_count in (("1 s", 2), ("-1 s", 0)):
        database_state.execute(
            f"INSERT INTO revoked_tokens VALUES ('t', now() - interval '{interval}');"
            "INSERT INTO code_attempts VALUES"
            f" ('x', ARRAY[now()], now() - interval '300 s' - interval '{interval}')"
        )
        assert retention.delete_old_rows() == deleted_count


def test_live_events_that_no_relay_publishes_are_deleted_after_8_days(
    retention: Retention, database_state: DatabaseState
) -> None:
    for age, deleted_count in (("7 days", 0), ("9 days", 2)):
        database_state.execute(
            "INSERT INTO outbox_events (type, created_at)"
            f" VALUES ('account_warned', now() - interval '{age}');"
            "INSERT INTO event_batches (lines, created_at)"
            f" VALUES ('{{}}', now() - interval '{age}')"
        )
        assert retention.delete_old_rows() == deleted_count


def test_one_call_deletes_at_most_1000_rows_of_a_table(
    retention: Retention, database_state: DatabaseState
) -> None:
    database_state.execute(
        "INSERT INTO revoked_tokens SELECT n::text, now() - n * interval '1 s'"
        " FROM generate_series(1, 1500) AS n"
    )
    assert [retention.delete_old_rows() for _ in range(3)] == [1000, 500, 0]


def test_period_of_zero_keeps_rows_forever(
    api: ApiClient, ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.send_friend_request(ben)
    insert_room(database_state, closed_at="10 years", disabled_at="now()")
    database_state.execute("UPDATE friend_requests SET sent_at_us = 1")
    assert api.app.registry.services.retention.delete_old_rows() == 0
