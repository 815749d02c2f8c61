"""`livebackend demo-data` creates consistent users that work with the API."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from livebackend.database.engine import Database
from livebackend.ledger.audit import audit
from tests.support.api import ApiClient
from tests.support.application import DEVELOPMENT_INI
from tests.support.commands import Operator
from tests.support.database_state import DatabaseState

USER_COUNT = 700  # more users than one INSERT creates

# Each query returns the rows that violate a rule; consistent data have no such rows.
QUERY_BY_INCONSISTENCY = {
    "a balance differs from the sum of the transfers": """
        SELECT a.id FROM coin_accounts AS a
        LEFT JOIN (SELECT coin_account_id, sum(amount) AS coins FROM coin_slots GROUP BY 1) AS s
            ON s.coin_account_id = a.id
        LEFT JOIN (SELECT coin_account_id, sum(amount) AS coins FROM entries GROUP BY 1) AS e
            ON e.coin_account_id = a.id
        WHERE a.owner_id IS NOT NULL AND coalesce(s.coins, 0) <> coalesce(e.coins, 0)
    """,
    "a user has no coin account": """
        SELECT id FROM accounts WHERE id NOT IN
            (SELECT owner_id FROM coin_accounts WHERE owner_id IS NOT NULL)
    """,
    "a coin account has no balance shard 0": """
        SELECT id FROM coin_accounts WHERE owner_id IS NOT NULL AND id NOT IN
            (SELECT coin_account_id FROM coin_slots WHERE slot = 0)
    """,
    "a friendship has no accepted friend request": """
        SELECT account_id FROM friendships AS f WHERE NOT EXISTS (
            SELECT FROM friend_requests WHERE state = 'accepted' AND
                (applicant_id, addressee_id) IN ((account_id, friend_id), (friend_id, account_id)))
    """,
    "a gift has no transfer, or a gift transfer has no gift": """
        SELECT id FROM transfers WHERE (kind = 1) <> (id IN (SELECT transfer_id FROM gifts))
    """,
}


def comparable_data(database_state: DatabaseState) -> dict[str, Any]:
    """Return the data that the seed determines, with phones instead of account ids."""
    phone_by_account_id = {row["id"]: row["phone"] for row in database_state.rows("accounts")}
    phone_by_coin_account_id = {
        row["id"]: phone_by_account_id.get(row["owner_id"])
        for row in database_state.rows("coin_accounts")
    }
    return {
        "accounts": sorted(
            (row["phone"], row["nickname"], str(row["gender"]))
            for row in database_state.rows("accounts")
        ),
        "friends": sorted(
            (phone_by_account_id[row["account_id"]], phone_by_account_id[row["friend_id"]])
            for row in database_state.rows("friendships")
        ),
        "requests": sorted(
            (
                phone_by_account_id[row["applicant_id"]],
                phone_by_account_id[row["addressee_id"]],
                row["state"],
            )
            for row in database_state.rows("friend_requests")
        ),
        "transfers": sorted(
            (
                str(phone_by_coin_account_id[row["debit_id"]]),
                str(phone_by_coin_account_id[row["credit_id"]]),
                row["amount"],
            )
            for row in database_state.rows("transfers")
        ),
        "rooms": sorted(
            (phone_by_account_id[row["account_id"]], row["title"], row["state"], row["stream_key"])
            for row in database_state.rows("rooms")
        ),
    }


def test_demo_data_is_consistent_and_works_with_the_api(
    operator: Operator, api: ApiClient, database: Database, database_state: DatabaseState
) -> None:
    report = operator.run_json("demo-data", "--users", str(USER_COUNT), "--password", "harbour-42")
    assert report["users"] == len(database_state.rows("accounts")) == USER_COUNT
    with database.engine.connect() as connection:
        for inconsistency, query in QUERY_BY_INCONSISTENCY.items():
            assert connection.execute(text(query)).all() == [], inconsistency

    assert audit(database, since_checkpoint=False).findings == []

    first_user = api.log_in(report["first_phone"])
    friends = first_user.friends()
    assert friends
    assert {message["flag"] for message in first_user.messages()} <= {0, 1, 2, 3}
    assert first_user.send_gift(api.log_in(report["last_phone"]), "1").result in ("0000", "0013")
    open_rooms = [row for row in database_state.rows("rooms") if row["state"] == "open"]
    assert 1 <= len(open_rooms) < USER_COUNT * 0.05
    nicknames = {row["nickname"] for row in database_state.rows("accounts")}
    assert any(name.isascii() for name in nicknames)
    assert any(not name.isascii() for name in nicknames)
    assert all(row["phone"].startswith("120") for row in database_state.rows("accounts"))


def test_same_seed_creates_the_same_users(
    operator: Operator, database_state: DatabaseState
) -> None:
    data_of_runs = []
    for seed in ("7", "7", "8"):
        database_state.empty()
        operator.run("demo-data", "--users", "60", "--seed", seed)
        data_of_runs.append(comparable_data(database_state))
    assert data_of_runs[0] == data_of_runs[1] != data_of_runs[2]


def test_database_with_accounts_is_refused_without_allow_existing(
    operator: Operator, api: ApiClient, database_state: DatabaseState
) -> None:
    api.register_user("13800000001")
    with database_state.assert_unchanged():
        operator.run("demo-data", "--users", "5", code=1)
    for seed in ("1", "1"):
        operator.run("demo-data", "--users", "5", "--seed", seed, "--allow-existing")
    assert len(database_state.rows("accounts")) == 11


def test_progress_is_plain_lines_without_a_terminal(operator: Operator) -> None:
    result = operator.run("demo-data", "--users", "5")
    lines = result.stderr.splitlines()
    for stage, line in zip(("accounts", "friends", "coins", "rooms"), lines, strict=True):
        assert re.fullmatch(rf"{stage}: 5 of 5, \d+\.\d s", line)
    assert re.fullmatch(r"created 5 users in .* and the password [a-z2-9-]+\n", result.stdout)


@pytest.mark.processes
def test_progress_is_drawn_as_bars_on_a_terminal(database_url: str, data_dir: Path) -> None:
    """The command draws a bar for each stage, with the rate and the remaining time."""
    environment = {
        **os.environ,
        "LIVEBACKEND_DATABASE_URL": database_url,
        "LIVEBACKEND_DATA_DIR": str(data_dir),
        "LIVEBACKEND_PASSWORDS_COST": "4",
        "TERM": "xterm",
        "COLUMNS": "100",
    }
    terminal_fd, child_terminal_fd = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "livebackend.cli",
        "demo-data",
        str(DEVELOPMENT_INI),
        "--users",
        "5",
    ]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=child_terminal_fd,
        cwd=DEVELOPMENT_INI.parent,
    )
    os.close(child_terminal_fd)
    output = b""
    # os.read raises OSError when the command has closed its end of the terminal.
    with suppress(OSError):
        while chunk := os.read(terminal_fd, 65_536):
            output += chunk
    os.close(terminal_fd)
    assert process.wait(timeout=30) == 0
    visible_output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
    for stage in ("accounts", "friends", "coins", "rooms"):
        assert re.search(rf"{stage} +━+ 5/5 [0-9,]+/s 0:00:00", visible_output), visible_output


def test_single_user_has_no_friends(operator: Operator, database_state: DatabaseState) -> None:
    operator.run("demo-data", "--users", "1")
    assert database_state.rows("friendships") == []


def test_zero_users_are_an_invalid_argument(operator: Operator) -> None:
    operator.run("demo-data", "--users", "0", code=2)
