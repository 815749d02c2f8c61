"""Search of database and data folder for the data of a removed account."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from livebackend.database.engine import Database
from tests.support.api import PASSWORD, App, PhoneClient
from tests.support.database_state import DatabaseState
from tests.support.pictures import PNG, upload

_TABLES = text(
    "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
    " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
)


def all_rows_as_text(database: Database) -> list[tuple[str, str]]:
    """Return every row of every table, with the name of the table."""
    with database.engine.connect() as connection:
        return [
            (table, row)
            for table in connection.execute(_TABLES).scalars().all()
            for row in connection.execute(text(f"SELECT t::text FROM {table} AS t")).scalars()
        ]


@pytest.fixture
def app(new_hardened_app: Callable[..., App]) -> App:
    return new_hardened_app(
        coins__refill="order",
        payments__gateway="livebackend.development.payments.DevelopmentPayments",
        limits__sms_phone="",
    )


def test_removed_account_leaves_only_the_documented_data(
    app: App, database: Database, database_state: DatabaseState, data_dir: Path
) -> None:
    ann = PhoneClient(app, "13800000001").register(nickname="Unique nickname", gender="0")
    ben = PhoneClient(app, "13800000002").register(nickname="Ben")
    picture = str(upload(ann, PNG).message)
    ann.post("/register", profile="1", headImage=picture)
    ann.befriend(ben)
    stream = ann.go_live(title="Unique title").message
    ann.post("/room", leave="1")
    assert ann.refill("50").result == ben.refill("10").result == "0000"
    # The development provider reports each order as paid.
    database_state.execute("UPDATE payment_orders SET next_query_at = now()")
    app.registry.services.periodic_tasks.run_once()
    assert ann.send_gift(ben, "1", description="Unique description").result == "0000"
    assert ben.send_gift(ann, "1").result == "0000"
    ben.post("/friend", block="1", userId=ann.phone)
    ann.post("/log", userId=ann.phone, password="wrong-1")
    ann.post("/log", forgot="1", userId=ann.phone)
    searched_texts = {
        "phone": ann.phone,
        "nickname": "Unique nickname",
        "title": "Unique title",
        "description": "Unique description",
        "picture": picture.split("/")[-2],
        "publish key": json.loads(stream)["publishKey"],
    }
    assert ann.post("/register", remove="1", password=PASSWORD).result == "0000"

    found = {
        (table, name)
        for table, row in all_rows_as_text(database)
        for name, searched_text in searched_texts.items()
        if searched_text in row
    }
    # The table of docs/operations.md, "Personal data and retention", lists what remains.
    assert found == {("public.gifts", "description")}
    assert not [path for path in data_dir.rglob("*") if picture.split("/")[-2] in str(path)]
