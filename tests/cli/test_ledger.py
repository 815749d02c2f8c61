"""`livebackend ledger` audits the ledger, shows balances, and reverses transfers."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from livebackend.cli.ledger import ledger
from livebackend.ledger.audit import CHECK_NAMES
from tests.support.api import UserClient
from tests.support.application import DEVELOPMENT_INI
from tests.support.database_state import DatabaseState


@pytest.fixture
def run(database_url: str, data_dir: Path, database_state: DatabaseState) -> Any:
    """Function that runs a `livebackend ledger` command on the test database."""
    environment = {"LIVEBACKEND_DATABASE_URL": database_url, "LIVEBACKEND_DATA_DIR": str(data_dir)}

    def run(command: str, *arguments: str) -> Result:
        runner = CliRunner(env=environment)
        return runner.invoke(ledger, [command, str(DEVELOPMENT_INI), *arguments])

    return run


def corrupt_balances(database_state: DatabaseState) -> None:
    database_state.execute("UPDATE coin_slots SET amount = amount + 1 WHERE slot = 0")


class TestAudit:
    def test_consistent_ledger_has_no_findings(self, run: Any, ann: UserClient) -> None:
        ann.refill("100")
        result = run("audit")
        assert result.exit_code == 0
        *checks, totals = result.stdout.splitlines()
        assert checks == [f"    0  {name}" for name in CHECK_NAMES]
        assert totals.startswith("1 transfers read, 100 coins in all balances, ")

    def test_wrong_balance_is_reported_and_exits_with_1(
        self, run: Any, ann: UserClient, database_state: DatabaseState
    ) -> None:
        corrupt_balances(database_state)
        result = run("audit")
        assert result.exit_code == 1
        assert "    1  balances that differ from the transfers\n" in result.stdout
        assert "has 1 coins, but its transfers add up to 0\n" in result.stderr

    @pytest.mark.parametrize("since_checkpoint", [False, True])
    def test_audit_prints_json(
        self,
        run: Any,
        ann: UserClient,
        ben: UserClient,
        database_state: DatabaseState,
        *,
        since_checkpoint: bool,
    ) -> None:
        ann.refill("100")
        assert run("checkpoint").exit_code == 0
        ann.send_gift(ben, "10")
        arguments = ["--json"] + ["--since-checkpoint"] * since_checkpoint
        result = run("audit", *arguments)
        report = json.loads(result.stdout)
        assert result.exit_code == 0
        assert report["checks"] == dict.fromkeys(CHECK_NAMES, 0)
        assert report["findings"] == []
        assert (report["transfers"], report["coins"]) == (1 if since_checkpoint else 2, 100)
        corrupt_balances(database_state)
        result = run("audit", *arguments)
        report = json.loads(result.stdout)
        assert result.exit_code == 1
        assert report["checks"]["balances that differ from the transfers"] == 2
        assert {finding["check"] for finding in report["findings"]} == {
            "balances that differ from the transfers",
            "total of all balances that differs from the coins received from providers",
        }


class TestShow:
    def test_balance_and_latest_transfers_of_a_user_are_shown(
        self, run: Any, ann: UserClient, ben: UserClient
    ) -> None:
        ann.refill("100")
        ann.send_gift(ben, "30", description="a rose")
        coins, gift, refill = run("show", ann.phone).stdout.splitlines()
        assert coins == "70 coins"
        assert gift.split()[3:] == ["gift", "-30", "70", "Ben", "a", "rose"]
        assert refill.split()[3:] == ["refill", "+100", "100"]

    def test_show_prints_json(self, run: Any, ann: UserClient) -> None:
        ann.refill("100")
        shown = json.loads(run("show", ann.phone, "--json").stdout)
        (refill,) = shown["records"]
        assert (shown["coins"], refill["kind"], refill["coins"], refill["balance_after"]) == (
            *(100, "refill", 100, 100),
        )

    def test_unknown_phone_is_an_error(self, run: Any) -> None:
        result = run("show", "13800000077")
        assert (result.exit_code, result.stderr) == (1, "Error: no account has this phone number\n")


class TestReverse:
    def reverse(self, run: Any, transfer_id: object, *arguments: str) -> Result:
        result: Result = run("reverse", str(transfer_id), "--reason", "by mistake", *arguments)
        return result

    @pytest.fixture
    def gift(self, ann: UserClient, ben: UserClient, database_state: DatabaseState) -> int:
        ann.refill("100")
        ann.send_gift(ben, "30")
        return max(int(row["id"]) for row in database_state.rows("transfers"))

    def test_repeated_reversal_moves_coins_once(
        self, gift: int, run: Any, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        result = self.reverse(run, gift)
        assert (result.exit_code, result.stdout) == (0, f"transfer {gift}: reversed\n")
        assert (database_state.coins(ann), database_state.coins(ben)) == (100, 0)
        with database_state.assert_unchanged():
            result = self.reverse(run, gift, "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["status"] == "already reversed"
        assert [row["reason"] for row in database_state.rows("reversal_requests")] == ["by mistake"]
        assert run("audit").exit_code == 0

    def test_reversal_of_spent_coins_exits_with_1_and_stays_open(
        self, gift: int, run: Any, ben: UserClient, cat: UserClient
    ) -> None:
        ben.send_gift(cat, "20")
        result = self.reverse(run, gift)
        message = "not reversed: the recipient has spent the coins"
        assert (result.exit_code, result.stdout) == (1, f"transfer {gift}: {message}\n")
        result = run("audit")
        assert result.exit_code == 1
        assert "    1  pending reversals\n" in result.stdout

    def test_unknown_transfer_is_an_error(self, run: Any) -> None:
        result = self.reverse(run, 1)
        assert (result.exit_code, result.stderr) == (1, "Error: there is no transfer 1\n")

    @pytest.mark.parametrize("transfer_id", ["0", "x", "9" * 20])
    def test_invalid_transfer_number_exits_with_2(self, transfer_id: str, run: Any) -> None:
        assert self.reverse(run, transfer_id).exit_code == 2

    def test_reversal_needs_a_reason_of_1_to_200_characters(self, run: Any) -> None:
        assert run("reverse", "1").exit_code == 2
        assert run("reverse", "1", "--reason", "").exit_code == 2
        assert run("reverse", "1", "--reason", "x" * 201).exit_code == 2


class TestCheckpoint:
    def test_new_checkpoint_is_printed_with_its_hash(
        self, run: Any, ann: UserClient, database_state: DatabaseState
    ) -> None:
        ann.refill("100")
        result = run("checkpoint")
        (row,) = database_state.rows("ledger_checkpoints")
        assert result.exit_code == 0
        assert result.stdout == (
            f"checkpoint {row['id']}: 1 transfers of 100 coins,"
            f" up to transfer {row['through_id']}\n"
            f"{bytes(row['sha256']).hex()}\n"
        )
        assert run("checkpoint").stdout == (
            "no checkpoint created: there are no transfers since the last one\n"
        )

    def test_checkpoint_is_printed_as_json(self, run: Any, ann: UserClient) -> None:
        assert json.loads(run("checkpoint", "--json").stdout) == {"checkpoint": None}
        ann.refill("100")
        checkpoint = json.loads(run("checkpoint", "--json").stdout)
        values = checkpoint["transfers"], checkpoint["coins"], len(checkpoint["sha256"])
        assert values == (1, 100, 64)


@pytest.mark.parametrize("command", ledger.commands)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = CliRunner().invoke(ledger, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: livebackend ledger {command}" in result.stdout


def test_missing_ini_file_exits_with_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(ledger, ["audit", str(tmp_path / "no.ini")])
    assert result.exit_code == 2
