"""Mutation tests of the ledger, run by `make mutants`.

Each mutant is a plausible error in one source file, with a test that must detect the error. The
tests must pass on the unchanged sources. A mutant is killed if its test fails within a minute.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
COPIED_PATHS = (
    "livebackend",
    "migrations",
    "tests",
    "bench",
    "development.ini",
    "production.ini",
    "pyproject.toml",
)
MUTANT_TIMEOUT_S = 60
MAX_CONCURRENT = 2

LEDGER = "livebackend/ledger/posting.py"
WRITER = "livebackend/ledger/batch_writer.py"
ORDERS = "livebackend/services/payment_orders.py"
POST_TESTS = "tests/ledger/test_posting.py"
WRITER_TESTS = "tests/ledger/test_batch_writer.py"
REPLICATION_TESTS = "tests/ledger/test_replication.py"
STANDBY_TEST = f"{REPLICATION_TESTS}::test_response_to_a_retry_waits_for_the_standby"
PAYMENT_TESTS = "tests/views/test_payments.py"
GIFT_TESTS = "tests/views/test_golden.py"
ORDER_TESTS = "tests/services/test_payment_reconciliation.py"
REFUND_TESTS = "tests/services/test_payment_refunds.py"
SAME_ID_TEST = f"{POST_TESTS}::test_request_id_sent_on_eight_connections_moves_coins_once"
LOCK_ORDER_TEST = f"{POST_TESTS}::test_locks_are_acquired_in_order"
CROSSED_TRANSFERS_TEST = f"{POST_TESTS}::test_opposite_gifts_that_consolidate_slots_do_not_deadlock"

# This change removes the lock on the actor's row. The lock writes WAL, so with the lock the COMMIT
# of a retry would wait for the standby even without require_replication(), and the mutant would
# survive.
NO_ACTOR_LOCK = (" FOR NO KEY UPDATE OF coin_slots\n", "\n")


@dataclass(frozen=True)
class Mutant:
    """A change to one file, and the test that must fail because of it."""

    name: str
    file: str
    # (original text, replacement) pairs
    changes: tuple[tuple[str, str], ...]
    killer: str


MUTANTS = [
    Mutant(
        "request ids are looked up before the actors are locked",
        LEDGER,
        (
            (
                "    spendable, without_slot = lock_actors(",
                (
                    "    posted = find_posted(connection, transfers)\n"
                    "    spendable, without_slot = lock_actors("
                ),
            ),
            (
                (
                    "    # This query runs after the lock, so that it sees what the previous lock"
                    " holder has committed.\n"
                    "    posted = find_posted(connection, transfers)\n"
                ),
                "",
            ),
        ),
        SAME_ID_TEST,
    ),
    Mutant(
        "used request ids are ignored with ON CONFLICT DO NOTHING",
        LEDGER,
        (
            (
                "    posted = find_posted(connection, transfers)\n",
                "    posted: PostedTransfers = {}\n",
            ),
            (
                "    RETURNING actor_id, request_id, id\n",
                "    ON CONFLICT DO NOTHING RETURNING actor_id, request_id, id\n",
            ),
            (
                "    ids = {(row.actor_id, row.request_id): row.id for row in rows}\n",
                (
                    "    ids = {(row.actor_id, row.request_id): row.id for row in rows}\n"
                    "    accepted = [transfer for transfer in accepted if transfer.key in ids]\n"
                ),
            ),
            ("else ids[transfer.key])", "else ids.get(transfer.key))"),
        ),
        f"{POST_TESTS}::test_retry_moves_no_coins_and_returns_the_first_transfer_id",
    ),
    Mutant(
        "slots are locked in the reverse order",
        LEDGER,
        (
            (
                "ORDER BY coin_slots.coin_account_id, coin_slots.slot\n",
                "ORDER BY coin_slots.coin_account_id DESC, coin_slots.slot DESC\n",
            ),
        ),
        LOCK_ORDER_TEST,
    ),
    Mutant(
        "actors are locked in the reverse order",
        LEDGER,
        (("ORDER BY coin_account_id FOR NO KEY", "ORDER BY coin_account_id DESC FOR NO KEY"),),
        LOCK_ORDER_TEST,
    ),
    Mutant(
        "slots are locked in two sorted statements instead of one",
        LEDGER,
        (
            (
                (
                    "    slots_to_lock = {(account, credit_slot)"
                    " for account in _credited_accounts(transfers)}\n"
                    "    slots_to_lock |= {(account, slot)"
                    " for account in insufficient_accounts for slot in SLOTS}\n"
                ),
                (
                    "    first_amounts = {}\n"
                    "    slots_to_lock = {(account, slot)"
                    " for account in insufficient_accounts for slot in SLOTS}\n"
                    "    if slots_to_lock:\n"
                    "        accounts, slots = zip(*slots_to_lock, strict=True)\n"
                    "        rows = _LOCK_SLOTS.run(\n"
                    "            connection, {'accounts': list(accounts), 'slots': list(slots)})\n"
                    "        first_amounts = {tuple(row[:2]): row.amount for row in rows}\n"
                    "    slots_to_lock = {(account, credit_slot)"
                    " for account in _credited_accounts(transfers)}\n"
                ),
            ),
            (
                "        return {}\n    accounts, slots",
                "        return first_amounts\n    accounts, slots",
            ),
            (
                "    return {(row.coin_account_id, row.slot): row.amount for row in rows}\n",
                "    return first_amounts | {tuple(row[:2]): row.amount for row in rows}\n",
            ),
        ),
        CROSSED_TRANSFERS_TEST,
    ),
    Mutant(
        "the table accepts negative amounts because it has no CHECK",
        "livebackend/migrations/versions/1001_initial_schema.py",
        (
            (
                "CHECK (amount BETWEEN 0 AND 542551296285575047)",
                "CHECK (amount <= 542551296285575047)",
            ),
        ),
        f"{POST_TESTS}::test_without_lock_on_actors_the_check_constraint_prevents_double_spending",
    ),
    Mutant(
        "only slot 0 counts as spendable balance",
        LEDGER,
        (("SLOTS = range(1 + CREDIT_SLOTS)", "SLOTS = range(1)"),),
        f"{POST_TESTS}::test_spending_more_than_slot_0_consolidates_all_slots_in_slot_0",
    ),
    Mutant(
        "a balance is slot 0 instead of the sum of all slots",
        "livebackend/ledger/history.py",
        (
            (
                "SELECT coalesce(sum(amount), 0)::bigint FROM coin_slots\n    WHERE",
                "SELECT amount FROM coin_slots\n    WHERE slot = 0 AND",
            ),
        ),
        "tests/views/test_coin_records.py::TestBalance::test_balance_is_the_sum_of_refills_and_gifts",
    ),
    Mutant(
        "callers get their outcome before the commit",
        WRITER,
        (
            (
                "            pending.commit_sent = True\n",
                (
                    "            pending.commit_sent = True\n"
                    "        for pending, outcome in zip(batch, outcomes, strict=True):\n"
                    "            if not pending.is_resolved:\n"
                    "                pending.resolve(outcome)\n"
                ),
            ),
            (
                "                pending.resolve(outcome)\n\n    def _post_alone",
                "                pass\n\n    def _post_alone",
            ),
        ),
        f"{WRITER_TESTS}::test_outcome_is_returned_after_the_commit",
    ),
    Mutant(
        "a retried batch gets new request ids",
        WRITER,
        (
            (
                "[pending.transfer for pending in batch]",
                (
                    "[__import__('dataclasses').replace(\n"
                    "            pending.transfer, request_id=__import__('uuid').uuid4())\n"
                    "            if pending.commit_sent else pending.transfer for pending in batch]"
                ),
            ),
        ),
        f"{WRITER_TESTS}::test_connection_lost_after_the_commit_posts_the_transfer_once",
    ),
    Mutant(
        "a transfer whose caller timed out stays in the queue",
        WRITER,
        (("                self._queue.remove(pending)\n", ""),),
        f"{WRITER_TESTS}::test_transfer_that_times_out_in_the_queue_moves_no_coins",
    ),
    Mutant(
        "a commit with unknown outcome is reported as failed",
        WRITER,
        (("            pending.commit_sent = True\n", "            pass\n"),),
        f"{WRITER_TESTS}::test_commit_of_unknown_outcome_is_never_reported_as_failed",
    ),
    Mutant(
        "a retried transfer is acknowledged without waiting for the standby",
        WRITER,
        (("            require_replication(connection)\n", "            connection.rollback()\n"),),
        f"{REPLICATION_TESTS}::test_retried_gift_waits_for_the_standby",
    ),
    Mutant(
        "a notification of a credited payment gets its response without the standby",
        ORDERS,
        (
            (
                "            require_replication(connection)\n        return _OrderToCredit",
                "            pass\n        return _OrderToCredit",
            ),
        ),
        f"{STANDBY_TEST}[retry_of_payment_notification]",
    ),
    Mutant(
        "a retry of an ordered refill locks no row, and gets its response without the standby",
        ORDERS,
        (
            NO_ACTOR_LOCK,
            (
                "            require_replication(connection)\n            return existing_order\n",
                "            return existing_order\n",
            ),
        ),
        f"{STANDBY_TEST}[retry_of_ordered_refill]",
    ),
    Mutant(
        "a retry of a direct refill locks no row, and gets its response without the standby",
        ORDERS,
        (
            NO_ACTOR_LOCK,
            (
                "            require_replication(connection)\n            return None\n",
                "            return None\n",
            ),
        ),
        f"{STANDBY_TEST}[retry_of_direct_refill]",
    ),
    Mutant(
        "a retry of a gift to a removed host gets its response without the standby",
        "livebackend/services/gifts.py",
        (("            require_replication(connection)\n", ""),),
        f"{STANDBY_TEST}[retry_of_gift_to_removed_host]",
    ),
    Mutant(
        "an error that depends on an earlier request gets its response without the standby",
        "livebackend/api/view_deriver.py",
        (("            request.services.database.await_replication()\n", "            pass\n"),),
        f"{STANDBY_TEST}[retry_of_friend_removal]",
    ),
    Mutant(
        "leave is declared idempotent, so its error response does not wait for the standby",
        "livebackend/views/room.py",
        (
            (
                "        already_done_reason=ErrorReason.ROOM_NOT_OPEN,\n",
                "        idempotent=True,\n",
            ),
        ),
        f"{STANDBY_TEST}[retry_of_leave]",
    ),
    Mutant(
        "a COMMIT whose wait for the standby was cancelled is acknowledged",
        WRITER,
        (("                if not warnings:\n", "                if outcomes:\n"),),
        f"{REPLICATION_TESTS}::test_transfer_is_posted_again_after_a_cancelled_wait_for_the_standby",
    ),
    Mutant(
        "an invalid transfer fails all transfers of its batch",
        WRITER,
        (
            (
                (
                    "            for pending in batch:\n"
                    "                self._post_alone(database, pending)\n"
                ),
                "            for pending in batch:\n                pending.fail(error)\n",
            ),
        ),
        f"{WRITER_TESTS}::test_invalid_transfer_does_not_fail_the_other_transfers_of_its_batch",
    ),
    Mutant(
        "a payment's amount is not compared with the order",
        "livebackend/services/payment_orders.py",
        (("        if row.fen != payment.fen:\n", "        if False:\n"),),
        f"{PAYMENT_TESTS}::TestNotifications::test_payment_notification_that_differs_from_the_order_returns_400",
    ),
    Mutant(
        "balances are unlimited",
        LEDGER,
        (
            (
                "        elif _is_over_limit(transfer, spendable, credited_amounts):",
                "        elif False:",
            ),
        ),
        f"{GIFT_TESTS}::TestBalanceLimit::test_gift_to_a_host_with_a_full_balance_returns_0013_and_moves_no_coins",
    ),
    Mutant(
        "a payment for a closed order is not credited",
        LEDGER,
        (("AND state IN ('pending', 'closed')", "AND state = 'pending'"),),
        f"{ORDER_TESTS}::test_payment_that_arrives_after_the_order_was_closed_is_credited",
    ),
    Mutant(
        "a claim statement can claim several orders",
        "livebackend/services/payment_reconciliation.py",
        (("WHERE (provider, order_id) = (", "WHERE (provider, order_id) IN ("),),
        f"{ORDER_TESTS}::test_each_order_is_claimed_once_with_any_table_statistics",
    ),
    Mutant(
        "the payment is refunded although the coins could not be reversed",
        "livebackend/services/payment_refunds.py",
        (
            (
                "        if outcome.status is TransferStatus.INSUFFICIENT_COINS:\n",
                "        if outcome.status is None:\n",
            ),
        ),
        f"{REFUND_TESTS}::test_refund_with_insufficient_balance_changes_nothing",
    ),
    Mutant(
        "a notification's signature is not verified",
        "livebackend/development/payments.py",
        (("        if not hmac.compare_digest(", "        if False and not hmac.compare_digest("),),
        f"{PAYMENT_TESTS}::TestNotifications::test_payment_notification_with_a_wrong_signature_returns_400",
    ),
]


def copy_sources(folder: Path) -> None:
    for name in COPIED_PATHS:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    # Without this copy, the tests would use the migrations of the editable installation.
    shutil.copytree(ROOT / "migrations", folder / "livebackend" / "migrations")


def apply_mutant(folder: Path, mutant: Mutant) -> None:
    file = folder / mutant.file
    text = file.read_text("utf-8")
    for original, replacement in mutant.changes:
        if text.count(original) != 1:
            raise click.ClickException(
                f"mutant {mutant.name!r}: {mutant.file} must contain {original!r} once,"
                f" but contains it {text.count(original)} times: update tests/mutants.py"
            )
        text = text.replace(original, replacement)
    file.write_text(text, "utf-8")


def run_tests(folder: Path, *tests: str, timeout_s: float) -> tuple[int | None, str]:
    """Run tests of the copied sources; return pytest's exit code and output.

    After a timeout, the exit code is None.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rf", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "1000"}
    try:
        completed = subprocess.run(
            command,
            # Python imports the packages in the working directory before the installed packages.
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return None, str(error.stdout)
    return completed.returncode, completed.stdout + completed.stderr


def run_mutant(mutant: Mutant) -> tuple[bool, str]:
    """Run a mutant's test; return whether it is killed, and a line to report."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="livebackend mutant ") as name:
        copy_sources(Path(name))
        apply_mutant(Path(name), mutant)
        exit_code, output = run_tests(Path(name), mutant.killer, timeout_s=MUTANT_TIMEOUT_S)
    killed = exit_code == 1 and f"FAILED {mutant.killer}" in output
    line = f"{'killed ' if killed else 'SURVIVED'} {time.monotonic() - start:5.1f} s  {mutant.name}"
    return killed, line if killed else f"{line}\n{output[-2000:]}"


@click.command()
@click.option("--only", default="", help="run only the mutants whose name contains this text")
def main(only: str) -> None:
    """Check that the tests detect each mutant, in a copy of the sources."""
    mutants = [mutant for mutant in MUTANTS if only in mutant.name]
    with tempfile.TemporaryDirectory(prefix="livebackend mutant ") as name:
        copy_sources(Path(name))
        killers = list(dict.fromkeys(mutant.killer for mutant in mutants))
        exit_code, output = run_tests(Path(name), *killers, timeout_s=300)
    if exit_code != 0:
        raise click.ClickException(f"the tests fail on the unchanged sources:\n{output[-3000:]}")
    click.echo(output.strip().splitlines()[-1])
    mutants_to_repeat = []
    with ThreadPoolExecutor(MAX_CONCURRENT) as pool:
        for mutant, (killed, line) in zip(mutants, pool.map(run_mutant, mutants), strict=True):
            click.echo(line)
            mutants_to_repeat += [] if killed else [mutant]
    survivor_count = 0
    for mutant in mutants_to_repeat:  # run again alone, because concurrent tests can cause timeouts
        killed, line = run_mutant(mutant)
        click.echo(line)
        survivor_count += not killed
    if survivor_count:
        raise click.ClickException(
            f"{survivor_count} of {len(mutants)} mutants survived: no test detects them"
        )
    click.echo(f"all {len(mutants)} mutants are killed")


if __name__ == "__main__":
    main()
