"""Query plans: no statement of the application scans a large table sequentially."""

import gc
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyramid.events import NewResponse
from sqlalchemy import Connection, text
from webtest import Upload

from livebackend.api.operation_declaration import operations
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.database.prepared_statements import PreparedStatement
from tests.support.api import PASSWORD, ApiClient, App
from tests.support.statements import before_each_statement

# Fills each table that grows with the number of users, so that PostgreSQL prefers an index to a
# sequential scan. The inserted rows can be inconsistent.
_INSERT_ROWS = """
INSERT INTO accounts (phone, password_hash)
    SELECT (13800000000 + n)::text, 'x' FROM generate_series(1, 5000) n;
INSERT INTO friendships (account_id, friend_id)
    SELECT n, 1 + (n + k) % 5000 FROM generate_series(1, 5000) n, generate_series(1, 3) k;
INSERT INTO blocks (account_id, blocked_id)
    SELECT n, n + 1 FROM generate_series(1, 5000) n;
INSERT INTO friend_requests (applicant_id, addressee_id, sent_at_us)
    SELECT n, n + 1, n FROM generate_series(1, 5000) n;
INSERT INTO revoked_tokens
    SELECT n::text, now() + n * interval '1 s' FROM generate_series(1, 5000) n;
INSERT INTO rate_limit_counters
    SELECT n::text, ARRAY[now()], ARRAY[1], now() + n * interval '1 s'
    FROM generate_series(1, 5000) n;
INSERT INTO coin_accounts (owner_id) SELECT n FROM generate_series(1, 5000) n;
INSERT INTO coin_slots (coin_account_id, slot, amount)
    SELECT n, 0, 100 FROM generate_series(1, 5000) n;
INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)
    SELECT 1, n, n + 1, 1, n, gen_random_uuid() FROM generate_series(1, 5000) n;
INSERT INTO gifts (transfer_id, host_id, description)
    SELECT n, n, 'rose' FROM generate_series(1, 5000) n;
INSERT INTO rooms
        (account_id, state, stream_key, publish_key, closed_at, close_reason, disabled_at)
    SELECT n, 'closed', n::text, n::text, now(), 'left', now() FROM generate_series(1, 5000) n;
INSERT INTO payment_orders (provider, order_id, account_id, request_id, fen, coins, state)
    SELECT 'x', n::text, n, gen_random_uuid(), 1000, 10, 'closed' FROM generate_series(1, 5000) n;
INSERT INTO pictures (location, created_at)
    SELECT n::text, now() + n * interval '1 s' FROM generate_series(1, 5000) n;
INSERT INTO verification_codes (id, phone, digest, expires_at)
    SELECT gen_random_uuid(), (13800000000 + n)::text, decode(md5(n::text), 'hex'), now()
    FROM generate_series(1, 5000) n;
INSERT INTO code_attempts
    SELECT n::text::bytea, ARRAY[now()], now() + n * interval '1 s'
    FROM generate_series(1, 5000) n;
"""


@pytest.fixture(scope="module")
def filled_database(new_database: Callable[[str], str], worker_id: str) -> Iterator[Database]:
    database = Database(new_database(f"plans_{worker_id}"))
    migrate(database)
    with database.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(_INSERT_ROWS))
        connection.execute(text("ANALYZE"))
    yield database
    database.close()


@pytest.fixture(scope="module")
def app(new_app: Callable[..., App], filled_database: Database) -> App:
    url = filled_database.engine.url.render_as_string(hide_password=False)
    return new_app(
        database__url=url,
        limits__search="2 per hour; 2 per day",
        limits__gifts="3 per hour",
        retention__rooms_days="30",
        retention__unpaid_orders_days="180",
        retention__messages_days="180",
    )


def request_every_operation(api: ApiClient) -> set[str]:
    """Request every operation; return the names of all requested operations."""
    requested_operations = []

    def record(handler_event: Any) -> None:
        requested_operations.append(handler_event.request.operation.name)

    api.app.registry.registerHandler(record, (NewResponse,))
    ann, ben = (api.register_user(f"1390000000{n}", nickname="Ann") for n in (1, 2))
    code = api.post("/register", token="13900000003").message
    api.post("/register", code_v=code, code=code)
    ann.post(
        "/register",
        profile="1",
        headImage=ann.post("/upload", img=Upload("a.png", b"picture", "image/png")).message,
    )
    ann.post("/friend", search="1", userId=ben.phone)
    ann.befriend(ben)
    ben.deal_message(ben.messages()[0], "delete")
    ann.go_live(title="hello")
    ben.friends()
    ben.refill("50")
    ben.send_gift(ann, "10", requestId="gift-1")
    ben.send_gift(ann, "10", requestId="gift-1")
    ben.send_gift(ann, "1000")
    ben.send_gift(ann, "10", requestId="gift-1")  # exceeds the rate limit
    ann.post("/room", leave="1")
    ann.post("/friend", delete="1", userId=ben.phone)
    ben.send_friend_request(ann)
    for selector in ("block", "unblock"):
        ann.post("/friend", **{selector: "1", "userId": ben.phone})
    code = api.post("/log", forgot="1", userId=ben.phone).message
    reset_form = {"userId": ben.phone, "code_v": code, "code": code, "password": PASSWORD}
    api.post("/log", reset="1", **reset_form)
    ben = api.log_in(ben.phone)
    change_response = ben.post("/log", change="1", oldPassword=PASSWORD, password=f"{PASSWORD}-2")
    api.post("/log", logout="1", token=change_response.message)
    api.post("/log", userId=ben.phone, password="wrong")
    ann.post("/friend", search="1", userId=ben.phone)
    ann.post("/friend", search="1", userId=ben.phone)  # exceeds the rate limit
    ann.post("/register", remove="1", password=PASSWORD)
    return set(requested_operations)


def test_no_statement_scans_a_large_table_sequentially(app: App, filled_database: Database) -> None:
    parameters_by_statement: dict[str, Any] = {}

    def record(connection: Connection, statement: str, parameters: Any) -> None:
        parameters_by_statement.setdefault(statement, parameters)

    with before_each_statement(record):
        requested_operations = request_every_operation(ApiClient(app))
        app.registry.services.retention.delete_old_rows()
    prepared_statement_by_text = {
        statement.text: statement
        for statement in gc.get_objects()
        if isinstance(statement, PreparedStatement)
    }
    documented_operations = {
        operation.name for operation in operations(app.registry) if operation.documented
    }
    assert documented_operations <= requested_operations

    plan_by_scanning_statement = {}
    with filled_database.engine.connect() as connection:
        large_tables = {
            row.relname
            for row in connection.execute(
                text("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples >= 5000")
            )
        }
        assert {"accounts", "friendships", "friend_requests", "rooms", "transfers"} <= large_tables
        del parameters_by_statement["ROLLBACK AND CHAIN"]  # EXPLAIN does not support this statement
        for statement, parameters in parameters_by_statement.items():
            plans = [connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
            if statement in prepared_statement_by_text:  # PostgreSQL can also use a generic plan
                numbered_sql, _ = prepared_statement_by_text[statement].numbered_text_and_names
                plans.append(connection.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {numbered_sql}"))
            for plan in plans:
                plan_text = "\n".join(row[0] for row in plan)
                if large_tables & set(re.findall(r"Seq Scan on (\w+)", plan_text)):
                    plan_by_scanning_statement[statement] = plan_text
    assert len(parameters_by_statement) > 70
    assert len(prepared_statement_by_text.keys() & parameters_by_statement.keys()) >= 18
    assert plan_by_scanning_statement == {}
