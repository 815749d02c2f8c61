"""`livebackend demo-data`: people who are made up, whom the application takes for real ones."""

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
from tests.support.api import Api
from tests.support.application import INI
from tests.support.commands import Operator
from tests.support.database_state import DatabaseState

USERS = 700  # more than a batch

# The books are in order where none of these finds anything.
FAULTS = {
    "a balance that the transfers do not explain": """
        SELECT a.id FROM coin_accounts AS a
        LEFT JOIN (SELECT coin_account_id, sum(amount) AS coins FROM coin_slots GROUP BY 1) AS s
            ON s.coin_account_id = a.id
        LEFT JOIN (SELECT coin_account_id, sum(amount) AS coins FROM entries GROUP BY 1) AS e
            ON e.coin_account_id = a.id
        WHERE a.owner_id IS NOT NULL AND coalesce(s.coins, 0) <> coalesce(e.coins, 0)
    """,
    "an account without a purse": """
        SELECT id FROM accounts WHERE id NOT IN
            (SELECT owner_id FROM coin_accounts WHERE owner_id IS NOT NULL)
    """,
    "a purse without its first slot": """
        SELECT id FROM coin_accounts WHERE owner_id IS NOT NULL AND id NOT IN
            (SELECT coin_account_id FROM coin_slots WHERE slot = 0)
    """,
    "friends who never asked": """
        SELECT account_id FROM friendships AS f WHERE NOT EXISTS (
            SELECT FROM friend_requests WHERE state = 'accepted' AND
                (applicant_id, addressee_id) IN ((account_id, friend_id), (friend_id, account_id)))
    """,
    "a gift that is no transfer's": """
        SELECT id FROM transfers WHERE (kind = 1) <> (id IN (SELECT transfer_id FROM gifts))
    """,
}


def people(database_state: DatabaseState) -> dict[str, Any]:
    """What the same seed must make the same, by phones: numbers of rows are nobody's business."""
    phones = {row["id"]: row["phone"] for row in database_state.rows("accounts")}
    owners = {
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
            (str(owners[row["debit_id"]]), str(owners[row["credit_id"]]), row["amount"])
            for row in database_state.rows("transfers")
        ),
        "rooms": sorted(
            (phones[row["account_id"]], row["title"], row["state"], row["stream_key"])
            for row in database_state.rows("rooms")
        ),
    }


def test_the_application_takes_them_for_real(
    operator: Operator, api: Api, database: Database, database_state: DatabaseState
) -> None:
    made = operator.reads("demo-data", "--users", str(USERS), "--password", "harbour-42")
    assert made["users"] == len(database_state.rows("accounts")) == USERS
    with database.engine.connect() as connection:
        for fault, query in FAULTS.items():
            assert connection.execute(text(query)).all() == [], fault

    assert audit(database, since_seal=False).findings == []

    first = api.log_in(made["first_phone"])
    friends = first.friends()
    assert friends
    assert {message["flag"] for message in first.messages()} <= {0, 1, 2, 3}
    assert first.give(api.log_in(made["last_phone"]), "1").result in ("0000", "0013")
    live = [row for row in database_state.rows("rooms") if row["state"] == "open"]
    assert 1 <= len(live) < USERS * 0.05
    names = {row["nickname"] for row in database_state.rows("accounts")}
    assert any(name.isascii() for name in names)
    assert any(not name.isascii() for name in names)
    assert all(row["phone"].startswith("120") for row in database_state.rows("accounts"))


def test_the_same_seed_makes_the_same_people(
    operator: Operator, database_state: DatabaseState
) -> None:
    made = []
    for seed in ("7", "7", "8"):
        database_state.empty()
        operator.runs("demo-data", "--users", "60", "--seed", seed)
        made.append(people(database_state))
    assert made[0] == made[1] != made[2]


def test_where_people_are_it_wants_to_be_told(
    operator: Operator, api: Api, database_state: DatabaseState
) -> None:
    api.person("13800000001")
    with database_state.unchanged():
        operator.runs("demo-data", "--users", "5", code=1)
    for seed in ("1", "1"):
        operator.runs("demo-data", "--users", "5", "--seed", seed, "--among-others")
    assert len(database_state.rows("accounts")) == 11


def test_piped_it_writes_plain_lines(operator: Operator) -> None:
    done = operator.runs("demo-data", "--users", "5")
    lines = done.stderr.splitlines()
    for stage, line in zip(("accounts", "friends", "coins", "rooms"), lines, strict=True):
        assert re.fullmatch(rf"{stage}: 5 of 5, \d+\.\d s", line)
    assert re.fullmatch(r"5 people in .* all with the password [a-z2-9-]+\n", done.stdout)


@pytest.mark.processes
def test_on_a_terminal_it_draws_how_far_it_is(database_url: str, var_dir: Path) -> None:
    """A bar for each stage, with the rate and the time that is left."""
    environment = {
        **os.environ,
        "LIVEBACKEND_DATABASE_URL": database_url,
        "LIVEBACKEND_VAR_DIR": str(var_dir),
        "LIVEBACKEND_PASSWORDS_COST": "4",
        "TERM": "xterm",
        "COLUMNS": "100",
    }
    terminal, its_end = pty.openpty()
    command = [sys.executable, "-m", "livebackend.cli", "demo-data", str(INI), "--users", "5"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=its_end, cwd=INI.parent
    )
    os.close(its_end)
    drawn = b""
    # A terminal whose other end is closed fails to be read.
    with suppress(OSError):
        while more := os.read(terminal, 65_536):
            drawn += more
    os.close(terminal)
    assert process.wait(timeout=30) == 0
    words = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())
    for stage in ("accounts", "friends", "coins", "rooms"):
        assert re.search(rf"{stage} +━+ 5/5 [0-9,]+/s 0:00:00", words), words


def test_one_alone_has_no_friends(operator: Operator, database_state: DatabaseState) -> None:
    operator.runs("demo-data", "--users", "1")
    assert database_state.rows("friendships") == []


def test_nobody_at_all_is_a_wrong_call(operator: Operator) -> None:
    operator.runs("demo-data", "--users", "0", code=2)
