"""What an operator types about coins."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from livebackend.cli.ledger import ledger
from livebackend.ledger.audit import NAMES
from tests.support.api import Person
from tests.support.application import INI
from tests.support.database_state import DatabaseState


@pytest.fixture
def run(database_url: str, var_dir: Path, database_state: DatabaseState) -> Any:
    """Runs `livebackend ledger …` on the tests' database."""
    environment = {"LIVEBACKEND_DATABASE_URL": database_url, "LIVEBACKEND_VAR_DIR": str(var_dir)}

    def run(command: str, *arguments: str) -> Result:
        runner = CliRunner(env=environment)
        return runner.invoke(ledger, [command, str(INI), *arguments])

    return run


def spoil(database_state: DatabaseState) -> None:
    database_state.execute("UPDATE coin_slots SET amount = amount + 1 WHERE slot = 0")


class TestAudit:
    def test_right_books_are_zeros(self, run: Any, ann: Person) -> None:
        ann.refill("100")
        done = run("audit")
        assert done.exit_code == 0
        *checks, size = done.stdout.splitlines()
        assert checks == [f"    0  {name}" for name in NAMES]
        assert size.startswith("1 transfers read, 100 coins held, ")

    def test_a_finding_is_exit_code_1(
        self, run: Any, ann: Person, database_state: DatabaseState
    ) -> None:
        spoil(database_state)
        done = run("audit")
        assert done.exit_code == 1
        assert "    1  balances that differ from the transfers\n" in done.stdout
        assert "has 1 coins, but its transfers add up to 0\n" in done.stderr

    @pytest.mark.parametrize("since_seal", [False, True])
    def test_for_programs(
        self, run: Any, ann: Person, ben: Person, database_state: DatabaseState, *, since_seal: bool
    ) -> None:
        ann.refill("100")
        assert run("seal").exit_code == 0
        ann.give(ben, "10")
        arguments = ["--json"] + ["--since-seal"] * since_seal
        done = run("audit", *arguments)
        told = json.loads(done.stdout)
        assert done.exit_code == 0
        assert told["checks"] == dict.fromkeys(NAMES, 0)
        assert told["findings"] == []
        assert (told["transfers"], told["coins"]) == (1 if since_seal else 2, 100)
        spoil(database_state)
        done = run("audit", *arguments)
        told = json.loads(done.stdout)
        assert done.exit_code == 1
        assert told["checks"]["balances that differ from the transfers"] == 2
        assert {finding["check"] for finding in told["findings"]} == {
            "balances that differ from the transfers",
            "total of all balances that differs from the coins received from providers",
        }


class TestShow:
    def test_somebodys_coins(self, run: Any, ann: Person, ben: Person) -> None:
        ann.refill("100")
        ann.give(ben, "30", description="a rose")
        coins, gift, refill = run("show", ann.phone).stdout.splitlines()
        assert coins == "70 coins"
        assert gift.split()[3:] == ["gift", "-30", "70", "Ben", "a", "rose"]
        assert refill.split()[3:] == ["refill", "+100", "100"]

    def test_for_programs(self, run: Any, ann: Person) -> None:
        ann.refill("100")
        told = json.loads(run("show", ann.phone, "--json").stdout)
        (refill,) = told["records"]
        assert (told["coins"], refill["kind"], refill["coins"], refill["left"]) == (
            *(100, "refill", 100, 100),
        )

    def test_a_stranger(self, run: Any) -> None:
        done = run("show", "13800000077")
        assert (done.exit_code, done.stderr) == (1, "Error: nobody has that phone\n")


class TestReverse:
    def reverse(self, run: Any, transfer: object, *arguments: str) -> Result:
        done: Result = run("reverse", str(transfer), "--reason", "by mistake", *arguments)
        return done

    @pytest.fixture
    def gift(self, ann: Person, ben: Person, database_state: DatabaseState) -> int:
        ann.refill("100")
        ann.give(ben, "30")
        return max(int(row["id"]) for row in database_state.rows("transfers"))

    def test_once_however_often(
        self, gift: int, run: Any, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        done = self.reverse(run, gift)
        assert (done.exit_code, done.stdout) == (0, f"transfer {gift}: reversed\n")
        assert (database_state.coins(ann), database_state.coins(ben)) == (100, 0)
        with database_state.unchanged():
            done = self.reverse(run, gift, "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["status"] == "was reversed before"
        assert [row["reason"] for row in database_state.rows("reversal_requests")] == ["by mistake"]
        assert run("audit").exit_code == 0

    def test_what_is_spent_is_exit_code_1_and_stays_open(
        self, gift: int, run: Any, ben: Person, cat: Person
    ) -> None:
        ben.give(cat, "20")
        done = self.reverse(run, gift)
        assert (done.exit_code, done.stdout) == (1, f"transfer {gift}: open: the coins are spent\n")
        done = run("audit")
        assert done.exit_code == 1
        assert "    1  pending reversals\n" in done.stdout

    def test_no_such_transfer(self, run: Any) -> None:
        done = self.reverse(run, 1)
        assert (done.exit_code, done.stderr) == (1, "Error: there is no transfer 1\n")

    @pytest.mark.parametrize("transfer", ["0", "x", "9" * 20])
    def test_no_number(self, transfer: str, run: Any) -> None:
        assert self.reverse(run, transfer).exit_code == 2

    def test_a_reason_is_needed(self, run: Any) -> None:
        assert run("reverse", "1").exit_code == 2
        assert run("reverse", "1", "--reason", "").exit_code == 2
        assert run("reverse", "1", "--reason", "x" * 201).exit_code == 2


class TestSeal:
    def test_it_prints_what_it_closed(
        self, run: Any, ann: Person, database_state: DatabaseState
    ) -> None:
        ann.refill("100")
        done = run("seal")
        (row,) = database_state.rows("ledger_checkpoints")
        assert done.exit_code == 0
        assert done.stdout == (
            f"seal {row['id']}: 1 transfers of 100 coins, through {row['through_id']}\n"
            f"{bytes(row['sha256']).hex()}\n"
        )
        assert run("seal").stdout == "nothing is new since the last seal\n"

    def test_for_programs(self, run: Any, ann: Person) -> None:
        assert json.loads(run("seal", "--json").stdout) == {"seal": None}
        ann.refill("100")
        told = json.loads(run("seal", "--json").stdout)
        assert (told["transfers"], told["coins"], len(told["sha256"])) == (1, 100, 64)


@pytest.mark.parametrize("command", ledger.commands)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = CliRunner().invoke(ledger, [command, "--help"])
    assert done.exit_code == 0
    assert f"Example: livebackend ledger {command}" in done.stdout


def test_settings_that_are_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(ledger, ["audit", str(tmp_path / "no.ini")])
    assert done.exit_code == 2
