"""The audit, checkpoints and reversals: each kind of error is detected."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from livebackend.database.engine import Database
from livebackend.ledger.audit import CHECK_NAMES, AuditFinding, audit, run_checks
from livebackend.ledger.batch_writer import LedgerBatchWriter
from livebackend.ledger.checkpoints import Checkpoint, create_checkpoint
from livebackend.ledger.posting import post
from livebackend.ledger.reversals import Reversals
from livebackend.ledger.transfers import CoinAccount, TransferKind, TransferStatus
from tests.support.api import run_concurrently
from tests.support.database_state import DatabaseState
from tests.support.ledger_helpers import LedgerFixture


@pytest.fixture
def ledger(database: Database) -> LedgerFixture:
    return LedgerFixture(database)


@pytest.fixture
def reversals(database: Database) -> Iterator[Reversals]:
    writer = LedgerBatchWriter(database, writer_number=3)
    yield Reversals(database, writer)
    writer.close()


@pytest.fixture
def accounts(ledger: LedgerFixture) -> list[CoinAccount]:
    """Three accounts with transfers of every kind."""
    ann, ben, cat = (ledger.open({0: 50, 3: 50}) for _ in range(3))
    ledger.post(
        ledger.gift(ann, ben, 70), ledger.refill(cat, 10), ledger.order_refill(ann, 50), slot=5
    )
    (gift_outcome,) = ledger.post(ledger.gift(cat, ann, 5))
    reversal = replace(
        ledger.gift(ann, cat, 5),
        kind=TransferKind.REVERSAL,
        gift=None,
        reverses_id=gift_outcome.transfer_id,
    )
    ledger.post(reversal)
    return [ann, ben, cat]


def findings_of(database: Database, *, since_checkpoint: bool = False) -> list[AuditFinding]:
    return audit(database, since_checkpoint=since_checkpoint).findings


def new_checkpoint(database: Database) -> Checkpoint:
    checkpoint = create_checkpoint(database)
    assert checkpoint
    return checkpoint


@pytest.mark.parametrize("since_checkpoint", [False, True])
class TestConsistentLedger:
    def test_audit_of_an_empty_ledger_has_no_findings(
        self, database: Database, database_state: DatabaseState, *, since_checkpoint: bool
    ) -> None:
        result = audit(database, since_checkpoint=since_checkpoint)
        assert (result.transfers, result.coins, result.findings) == (0, 0, [])

    def test_audit_of_all_kinds_of_transfers_has_no_findings(
        self, database: Database, accounts: list[CoinAccount], *, since_checkpoint: bool
    ) -> None:
        result = audit(database, since_checkpoint=since_checkpoint)
        assert (result.coins, result.findings) == (360, [])
        assert result.transfers == 11

    def test_audit_after_two_checkpoints_has_no_findings(
        self,
        database: Database,
        accounts: list[CoinAccount],
        ledger: LedgerFixture,
        *,
        since_checkpoint: bool,
    ) -> None:
        new_checkpoint(database)
        ledger.post(ledger.gift(accounts[1], accounts[2], 20))
        new_checkpoint(database)
        ledger.post(ledger.gift(accounts[2], accounts[0], 15))
        result = audit(database, since_checkpoint=since_checkpoint)
        assert result.findings == []
        assert result.transfers == (1 if since_checkpoint else 13)


def test_audit_reports_the_start_of_every_check(
    database: Database, database_state: DatabaseState
) -> None:
    started_checks: list[str] = []
    audit(database, since_checkpoint=False, on_check_started=started_checks.append)
    assert started_checks == CHECK_NAMES


def test_audit_during_transfers_reads_one_snapshot(
    database: Database, ledger: LedgerFixture
) -> None:
    accounts = [ledger.open({0: 1000}) for _ in range(4)]

    def spend() -> None:
        for n in range(60):
            ledger.post(ledger.gift(accounts[n % 4], accounts[(n + 1) % 4], 1))

    def run_audits() -> None:
        for _ in range(8):
            assert findings_of(database) == []

    run_concurrently(spend, run_audits)


# For each corruption: the check that must detect it, and the SQL statements that cause it.
CORRUPTIONS = {
    "negative balance": (
        "negative balances",
        [
            "ALTER TABLE coin_slots DROP CONSTRAINT ck_coin_slots_amount",
            "UPDATE coin_slots SET amount = -1 WHERE ctid = (SELECT min(ctid) FROM coin_slots)",
        ],
    ),
    "balance too high": (
        "balances that differ from the transfers",
        ["UPDATE coin_slots SET amount = amount + 1 WHERE slot = 0"],
    ),
    "deleted refills": (
        "total of all balances that differs from the coins received from providers",
        ["DELETE FROM transfers WHERE kind = 2"],
    ),
    "deleted slot": (
        "balances that differ from the transfers",
        ["DELETE FROM coin_slots WHERE slot = 6"],
    ),
    "changed amount": (
        "balances that differ from the transfers",
        ["UPDATE transfers SET amount = amount + 1 WHERE kind = 1"],
    ),
    "duplicate request id": (
        "request ids with more than one transfer",
        [
            "ALTER TABLE transfers DROP CONSTRAINT uq_transfers_actor_id_request_id",
            "UPDATE transfers SET request_id = '00000000-0000-4000-8000-000000000000'",
        ],
    ),
    "refill from a user": (
        "transfers whose kind does not match their accounts",
        ["UPDATE transfers SET kind = 2 WHERE kind = 1"],
    ),
    "transfer without its gift": (
        "gifts without a transfer, or transfers without their gift",
        ["DELETE FROM gifts WHERE ctid = (SELECT min(ctid) FROM gifts)"],
    ),
    "gift without a transfer": (
        "gifts without a transfer, or transfers without their gift",
        ["INSERT INTO gifts (transfer_id, host_id, description) VALUES (999999999, 1, 'x')"],
    ),
    "order for more coins": (
        "paid orders that differ from their transfer",
        ["UPDATE payment_orders SET coins = coins + 1"],
    ),
    "paid order without a transfer": (
        "paid orders that differ from their transfer",
        ["UPDATE payment_orders SET transfer_id = 999999999"],
    ),
    "refill without an order": (
        "refills without a paid order",
        [
            "UPDATE coin_accounts SET provider = 'wechat' WHERE provider = 'direct'",
            "UPDATE payment_orders SET provider = 'wechat'",
        ],
    ),
    "reversal of fewer coins": (
        "reversals that differ from the reversed transfer",
        ["UPDATE transfers SET amount = amount - 1 WHERE kind = 9"],
    ),
    "pending reversal": (
        "pending reversals",
        ["INSERT INTO reversal_requests (transfer_id, reason) SELECT min(id), 'x' FROM transfers"],
    ),
}


@contextmanager
def corrupted_ledger(database: Database, *statements: str) -> Iterator[Callable[..., set[str]]]:
    """Execute statements without triggers and foreign keys; roll back after the block.

    Yields a function that returns the names of the checks that have findings.
    """
    with database.engine.connect() as connection:
        for statement in ("SET LOCAL session_replication_role = replica", *statements):
            connection.execute(text(statement))

        def checks_with_findings(*, since_checkpoint: bool) -> set[str]:
            result = run_checks(
                connection, since_checkpoint=since_checkpoint, on_check_started=lambda name: None
            )
            return {finding.check for finding in result.findings}

        yield checks_with_findings
        connection.rollback()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("since_checkpoint", [False, True])
def test_audit_detects_a_corrupted_ledger(
    name: str, database: Database, accounts: list[CoinAccount], *, since_checkpoint: bool
) -> None:
    check, statements = CORRUPTIONS[name]
    with corrupted_ledger(database, *statements) as checks_with_findings:
        assert check in checks_with_findings(since_checkpoint=since_checkpoint)
    assert findings_of(database) == []


def test_findings_of_a_check_are_limited_to_100(database: Database, ledger: LedgerFixture) -> None:
    for _ in range(120):
        ledger.open({0: 1})
    with database.engine.connect() as connection:
        connection.execute(text("UPDATE coin_slots SET amount = amount + 1"))
        result = run_checks(connection, since_checkpoint=False, on_check_started=lambda name: None)
        connection.rollback()
    balance_findings = [
        finding for finding in result.findings if "differ from the transfers" in finding.check
    ]
    assert len(balance_findings) == 100


class TestCheckpoints:
    def test_no_checkpoint_is_created_without_new_transfers(
        self, database: Database, accounts: list[CoinAccount]
    ) -> None:
        assert new_checkpoint(database).transfers == 11
        assert create_checkpoint(database) is None

    def test_no_checkpoint_is_created_for_an_empty_ledger(
        self, database: Database, database_state: DatabaseState
    ) -> None:
        assert create_checkpoint(database) is None

    def test_checkpoint_contains_the_hash_of_the_previous_checkpoint(
        self, database: Database, accounts: list[CoinAccount], ledger: LedgerFixture
    ) -> None:
        first_checkpoint = new_checkpoint(database)
        ledger.post(
            ledger.gift(accounts[1], accounts[2], 20), ledger.gift(accounts[1], accounts[2], 1)
        )
        second_checkpoint = new_checkpoint(database)
        assert first_checkpoint.previous_sha256 is None
        assert second_checkpoint.previous_sha256 == first_checkpoint.sha256
        assert (second_checkpoint.transfers, second_checkpoint.amount_sum) == (2, 21)

    def test_checkpoint_balances_add_up_to_the_balance_of_each_account(
        self,
        database: Database,
        accounts: list[CoinAccount],
        ledger: LedgerFixture,
        database_state: DatabaseState,
    ) -> None:
        new_checkpoint(database)
        ledger.post(ledger.gift(accounts[1], accounts[2], 20))
        new_checkpoint(database)
        balances = dict(
            zip([account.id for account in accounts], ledger.coins(*accounts), strict=True)
        )
        checkpointed_balances: Counter[int] = Counter()
        for row in database_state.rows("checkpoint_balances"):
            checkpointed_balances[row["coin_account_id"]] += row["delta"]
        assert {account: checkpointed_balances[account] for account in balances} == balances
        assert sum(checkpointed_balances.values()) == 0

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE transfers SET amount = amount + 1 WHERE kind = 1",
            "UPDATE transfers SET created_at = created_at + interval '1 second'",
            "UPDATE transfers SET request_id = gen_random_uuid()",
            "UPDATE gifts SET description = 'a tulip'",
            "UPDATE gifts SET host_id = host_id + 1",
            "DELETE FROM transfers WHERE kind = 1",
            "UPDATE ledger_checkpoints SET sha256 = sha256(sha256)",
            "UPDATE ledger_checkpoints SET transfers = transfers + 1",
            "UPDATE ledger_checkpoints SET amount_sum = amount_sum + 1",
            "UPDATE checkpoint_balances SET delta = delta + 1 WHERE delta > 0",
            "DELETE FROM checkpoint_balances WHERE delta > 0",
            "UPDATE ledger_checkpoints SET previous_sha256 = sha256",
        ],
    )
    def test_audit_detects_a_change_of_checkpointed_rows(
        self, statement: str, database: Database, accounts: list[CoinAccount]
    ) -> None:
        new_checkpoint(database)
        with corrupted_ledger(database, statement) as checks_with_findings:
            assert CHECK_NAMES[-1] in checks_with_findings(since_checkpoint=False)

    def test_audit_since_the_last_checkpoint_detects_new_errors(
        self, database: Database, accounts: list[CoinAccount], ledger: LedgerFixture
    ) -> None:
        new_checkpoint(database)
        ledger.post(ledger.gift(accounts[1], accounts[2], 20))
        change_newest = (
            "UPDATE transfers SET amount = 21 WHERE id = (SELECT max(id) FROM transfers)"
        )
        change_balances = "UPDATE coin_slots SET amount = amount + 1"
        for statement in (change_newest, change_balances):
            with corrupted_ledger(database, statement) as checks_with_findings:
                assert "balances that differ from the transfers" in checks_with_findings(
                    since_checkpoint=True
                )
        break_chain = "UPDATE ledger_checkpoints SET previous_sha256 = sha256"
        with corrupted_ledger(database, break_chain) as checks_with_findings:
            assert CHECK_NAMES[-1] in checks_with_findings(since_checkpoint=True)

    def test_checkpoint_waits_for_uncommitted_transfers(
        self, database: Database, accounts: list[CoinAccount], ledger: LedgerFixture
    ) -> None:
        # The early transfer has the smaller id, but commits after the late transfer.
        early_transfer, late_transfer = (
            ledger.gift(accounts[1], accounts[2], 1),
            ledger.gift(accounts[2], accounts[0], 1),
        )
        with database.engine.connect() as slow_connection:
            post(slow_connection, [early_transfer], 0)
            ledger.post(late_transfer, slot=1)
            checkpoints: list[Checkpoint | None] = []
            thread = threading.Thread(
                target=lambda: checkpoints.append(create_checkpoint(database))
            )
            thread.start()
            thread.join(0.3)
            assert thread.is_alive()
            slow_connection.commit()
            thread.join(20)
        assert checkpoints[0]
        assert checkpoints[0].transfers == 13
        assert findings_of(database) == []

    def test_transfers_and_checkpoints_can_run_concurrently(
        self, database: Database, ledger: LedgerFixture
    ) -> None:
        accounts = [ledger.open({0: 1000}) for _ in range(4)]

        def spend(slot: int) -> None:
            for n in range(40):
                giver, host = accounts[(slot + n) % 4], accounts[(slot + n + 1) % 4]
                ledger.post(ledger.gift(giver, host, 1), slot=slot)

        def create_checkpoints() -> None:
            for _ in range(10):
                create_checkpoint(database)

        run_concurrently(
            partial(spend, 0), partial(spend, 1), create_checkpoints, create_checkpoints
        )
        create_checkpoint(database)
        assert findings_of(database) == findings_of(database, since_checkpoint=True) == []

    @pytest.mark.parametrize(
        "table", ["ledger_checkpoints", "checkpoint_balances", "reversal_requests"]
    )
    def test_rows_of_checkpoints_and_reversal_requests_cannot_be_deleted(
        self,
        table: str,
        database: Database,
        accounts: list[CoinAccount],
        database_state: DatabaseState,
    ) -> None:
        new_checkpoint(database)
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(DBAPIError, match="ledger rows are never changed"):
                database_state.execute(statement)


class TestReversals:
    def test_gift_is_reversed_once(
        self,
        ledger: LedgerFixture,
        reversals: Reversals,
        database: Database,
        database_state: DatabaseState,
    ) -> None:
        ann, ben = ledger.open({0: 100}), ledger.open()
        (gift,) = ledger.post(ledger.gift(ann, ben, 30), slot=9)
        assert gift.transfer_id
        assert (
            reversals.reverse(gift.transfer_id, reason="by mistake").status is TransferStatus.DONE
        )
        assert ledger.coins(ann, ben) == [100, 0]
        with database_state.assert_unchanged():
            retry = reversals.reverse(gift.transfer_id, reason="retry")
        assert retry.status is TransferStatus.REPLAYED
        assert findings_of(database) == []

    def test_refill_is_reversed(
        self, ledger: LedgerFixture, reversals: Reversals, database: Database
    ) -> None:
        ann = ledger.open()
        (refill,) = ledger.post(ledger.refill(ann, 30))
        assert refill.transfer_id
        assert (
            reversals.reverse(refill.transfer_id, reason="charged back").status
            is TransferStatus.DONE
        )
        assert ledger.coins(ann) == [0]
        assert findings_of(database) == []

    def test_twenty_concurrent_reversals_move_coins_once(
        self, ledger: LedgerFixture, reversals: Reversals
    ) -> None:
        ann, ben = ledger.open({0: 100}), ledger.open({0: 100})
        (gift,) = ledger.post(ledger.gift(ann, ben, 30))
        assert gift.transfer_id
        outcomes = run_concurrently(
            *[partial(reversals.reverse, gift.transfer_id, reason="x")] * 20
        )
        statuses = [outcome.status for outcome in outcomes]
        assert sorted(statuses, key=str) == [TransferStatus.DONE] + [TransferStatus.REPLAYED] * 19
        assert ledger.coins(ann, ben) == [100, 100]

    def test_reversal_of_spent_coins_stays_pending_until_the_balance_suffices(
        self, ledger: LedgerFixture, reversals: Reversals, database: Database
    ) -> None:
        ann, ben, cat = ledger.open({0: 100}), ledger.open(), ledger.open()
        (gift,) = ledger.post(ledger.gift(ann, ben, 30))
        ledger.post(ledger.gift(ben, cat, 10))
        assert gift.transfer_id
        assert (
            reversals.reverse(gift.transfer_id, reason="late").status
            is TransferStatus.INSUFFICIENT_COINS
        )
        assert ledger.coins(ann, ben) == [70, 20]
        (finding,) = findings_of(database)
        assert finding.check == "pending reversals"
        assert finding.detail.startswith(
            f"reversal of transfer {gift.transfer_id} is pending since "
        )
        assert finding.detail.endswith(": late")
        ledger.post(ledger.refill(ben, 10))
        assert reversals.reverse(gift.transfer_id, reason="late").status is TransferStatus.DONE
        assert findings_of(database) == []

    def test_reversal_and_unknown_transfer_cannot_be_reversed(
        self, ledger: LedgerFixture, reversals: Reversals
    ) -> None:
        ann, ben = ledger.open({0: 100}), ledger.open()
        (gift,) = ledger.post(ledger.gift(ann, ben, 30))
        assert gift.transfer_id
        reversal = reversals.reverse(gift.transfer_id, reason="x")
        assert reversal.transfer_id
        with pytest.raises(LookupError, match="is a reversal and cannot be reversed"):
            reversals.reverse(reversal.transfer_id, reason="x")
        with pytest.raises(LookupError, match="there is no transfer"):
            reversals.reverse(reversal.transfer_id + 1, reason="x")
