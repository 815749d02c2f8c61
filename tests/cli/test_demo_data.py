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

USERS = 700  # more users than one INSERT creates

# Each query returns the rows that violate a rule; consistent data have no such rows.
INCONSISTENCIES = {
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
    phones = {row["id"]: row["phone"] for row in database_state.rows("accounts")}
    phones_by_coin_account = {
        row["id"]: phones.get(row["owner_id"]) for row in database_state.rows("coin_accounts")
    }
    return {
        "accounts": sorted(
            (row["phone"], row["nickname"], str(row["gender"]))
            for row in database_state.rows("accounts")
        ),
        "friends": sorted(
            (phones[row["account_id"]], phones[row["friend_id"]])
            for row in database_state.rows("friendships")
        ),
        "requests": sorted(
            (phones[row["applicant_id"]], phones[row["addressee_id"]], row["state"])
            for row in database_state.rows("friend_requests")
        ),
        "transfers": sorted(
            (
                str(phones_by_coin_account[row["debit_id"]]),
                str(phones_by_coin_account[row["credit_id"]]),
                row["amount"],
            )
            for row in database_state.rows("transfers")
        ),
        "rooms": sorted(
            (phones[row["account_id"]], row["title"], row["state"], row["stream_key"])
            for row in database_state.rows("rooms")
        ),
    }


def test_demo_data_is_consistent_and_works_with_the_api(
    operator: Operator, api: ApiClient, database: Database, database_state: DatabaseState
) -> None:
    report = operator.run_json("demo-data", "--users", str(USERS), "--password", "harbour-42")
    assert report["users"] == len(database_state.rows("accounts")) == USERS
    with database.engine.connect() as connection:
        for inconsistency, query in INCONSISTENCIES.items():
            assert connection.execute(text(query)).all() == [], inconsistency

    assert audit(database, since_checkpoint=False).findings == []

    first_user = api.log_in(report["first_phone"])
    friends = first_user.friends()
    assert friends
    assert {message["flag"] for message in first_user.messages()} <= {0, 1, 2, 3}
    assert first_user.send_gift(api.log_in(report["last_phone"]), "1").result in ("0000", "0013")
    open_rooms = [row for row in database_state.rows("rooms") if row["state"] == "open"]
    assert 1 <= len(open_rooms) < USERS * 0.05
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
    terminal, child_end = pty.openpty()
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
        stderr=child_end,
        cwd=DEVELOPMENT_INI.parent,
    )
    os.close(child_end)
    output = b""
    # os.read raises OSError when the command has closed its end of the terminal.
    with suppress(OSError):
        while chunk := os.read(terminal, 65_536):
            output += chunk
    os.close(terminal)
    assert process.wait(timeout=30) == 0
    visible_output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
    for stage in ("accounts", "friends", "coins", "rooms"):
        assert re.search(rf"{stage} +━+ 5/5 [0-9,]+/s 0:00:00", visible_output), visible_output


def test_single_user_has_no_friends(operator: Operator, database_state: DatabaseState) -> None:
    operator.run("demo-data", "--users", "1")
    assert database_state.rows("friendships") == []


def test_zero_users_are_an_invalid_argument(operator: Operator) -> None:
    operator.run("demo-data", "--users", "0", code=2)
