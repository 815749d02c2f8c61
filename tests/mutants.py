"""Mutants of the ledger that the tests must kill: `make mutants`.

Each is an error that one may well make, and that most tests would not notice. The unmutated suite
passes first. A mutant is killed when the named test fails, and by that test alone, within a minute.
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
NEEDED = (
    "livebackend",
    "migrations",
    "tests",
    "development.ini",
    "production.ini",
    "pyproject.toml",
)
KILL_S = 60
AT_ONCE = 2

LEDGER = "livebackend/ledger/posting.py"
WRITER = "livebackend/ledger/batch_writer.py"
ORDERS = "livebackend/services/payment_orders.py"
POST_TESTS = "tests/ledger/test_posting.py"
WRITER_TESTS = "tests/ledger/test_batch_writer.py"
REPLICATION_TESTS = "tests/ledger/test_replication.py"
RETRY = f"{REPLICATION_TESTS}::test_response_to_a_retry_waits_for_the_standby"
PAYMENT_TESTS = "tests/views/test_payments.py"
GIFT_TESTS = "tests/views/test_golden.py"
ORDER_TESTS = "tests/services/test_payment_reconciliation.py"
REFUND_TESTS = "tests/services/test_payment_refunds.py"
RACE = f"{POST_TESTS}::test_one_id_from_eight_connections_is_done_once"
ORDER = f"{POST_TESTS}::test_locks_are_taken_in_order"
CROSSING = f"{POST_TESTS}::test_who_gathers_and_is_credited_crosswise_waits_in_order"

# A row lock writes WAL: with it, the COMMIT of a retry waits even without require_replication.
NO_ACTOR_LOCK = (" FOR NO KEY UPDATE OF coin_slots\n", "\n")


@dataclass(frozen=True)
class Mutant:
    """A change of one file, and the test that must fail for it."""

    name: str
    file: str
    # what stands there, and what stands there instead
    changes: tuple[tuple[str, str], ...]
    killer: str


MUTANTS = [
    Mutant(
        "the keys are read before the lock",
        LEDGER,
        (
            (
                "    locked = LOCK_ACTORS.run(connection",
                (
                    "    known = find_posted(connection, transfers)\n"
                    "    locked = LOCK_ACTORS.run(connection"
                ),
            ),
            (
                (
                    "    # A new statement, so that it sees what the lock's former holder"
                    " committed.\n"
                    "    known = find_posted(connection, transfers)\n"
                ),
                "",
            ),
        ),
        RACE,
    ),
    Mutant(
        "a key that is taken is passed over: ON CONFLICT DO NOTHING",
        LEDGER,
        (
            (
                "    known = find_posted(connection, transfers)\n",
                "    known: PostedTransfers = {}\n",
            ),
            (
                "    RETURNING actor_id, request_id, id\n",
                "    ON CONFLICT DO NOTHING RETURNING actor_id, request_id, id\n",
            ),
            (
                "    ids = {(row.actor_id, row.request_id): row.id for row in rows}\n",
                (
                    "    ids = {(row.actor_id, row.request_id): row.id for row in rows}\n"
                    "    done = [transfer for transfer in done if transfer.key in ids]\n"
                ),
            ),
            ("known[transfer.key].id)", "getattr(known.get(transfer.key), 'id', None))"),
        ),
        f"{POST_TESTS}::test_a_repetition_moves_nothing_and_names_the_first",
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
        ORDER,
    ),
    Mutant(
        "actors are locked in the reverse order",
        LEDGER,
        (("ORDER BY coin_account_id FOR NO KEY", "ORDER BY coin_account_id DESC FOR NO KEY"),),
        ORDER,
    ),
    Mutant(
        "two sorted passes of locks instead of one",
        LEDGER,
        (
            (
                (
                    "    wanted = {(account, credit_slot) for account in credited}\n"
                    "    wanted |= {(account, each) for account in short for each in SLOTS}\n"
                ),
                (
                    "    gathered = {}\n"
                    "    wanted = {(account, each) for account in short for each in SLOTS}\n"
                    "    if wanted:\n"
                    "        accounts, slots = zip(*wanted, strict=True)\n"
                    "        rows = _LOCK_SLOTS.run(\n"
                    "            connection, {'accounts': list(accounts), 'slots': list(slots)})\n"
                    "        gathered = {tuple(row[:2]): row.amount for row in rows}\n"
                    "    wanted = {(account, credit_slot) for account in credited}\n"
                ),
            ),
            (
                "        return {}\n    accounts, slots",
                "        return gathered\n    accounts, slots",
            ),
            (
                "    return {(row.coin_account_id, row.slot): row.amount for row in rows}\n",
                "    return gathered | {tuple(row[:2]): row.amount for row in rows}\n",
            ),
        ),
        CROSSING,
    ),
    Mutant(
        "the table takes negative amounts: no CHECK",
        "livebackend/migrations/versions/1001_initial_schema.py",
        (
            (
                "CHECK (amount BETWEEN 0 AND 542551296285575047)",
                "CHECK (amount <= 542551296285575047)",
            ),
        ),
        f"{POST_TESTS}::test_without_the_actors_lock_a_coin_is_spent_twice_but_for_the_table",
    ),
    Mutant(
        "only the first slot is looked into, without SUM",
        LEDGER,
        (("SLOTS = range(1 + CREDIT_SLOTS)", "SLOTS = range(1)"),),
        f"{POST_TESTS}::test_whoever_spends_more_than_his_first_slot_has_all_gathered_there",
    ),
    Mutant(
        "a balance is the first slot, without SUM",
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
        "callers are told before the commit",
        WRITER,
        (
            (
                "            waiting.commit_sent = True\n",
                (
                    "            waiting.commit_sent = True\n"
                    "        for waiting, outcome in zip(batch, outcomes, strict=True):\n"
                    "            if not waiting.outcome.done():\n"
                    "                waiting.outcome.set_result(outcome)\n"
                ),
            ),
            (
                "                waiting.outcome.set_result(outcome)\n\n    def _settle_alone",
                "                waiting.outcome.done()\n\n    def _settle_alone",
            ),
        ),
        f"{WRITER_TESTS}::test_nobody_is_told_before_the_commit",
    ),
    Mutant(
        "a batch that is repeated gets new ids",
        WRITER,
        (
            (
                "[waiting.transfer for waiting in batch]",
                (
                    "[__import__('dataclasses').replace(\n"
                    "            waiting.transfer, request_id=__import__('uuid').uuid4())\n"
                    "            if waiting.commit_sent else waiting.transfer for waiting in batch]"
                ),
            ),
        ),
        f"{WRITER_TESTS}::test_a_connection_lost_after_the_commit_was_sent",
    ),
    Mutant(
        "whoever gives up is not withdrawn",
        WRITER,
        (("                self._queue.remove(waiting)\n", ""),),
        f"{WRITER_TESTS}::test_whoever_gives_up_before_it_was_taken_moved_nothing",
    ),
    Mutant(
        "a commit that may have been done is called undone",
        WRITER,
        (("            waiting.commit_sent = True\n", "            pass\n"),),
        f"{WRITER_TESTS}::test_a_commit_that_may_have_been_done_is_never_called_undone",
    ),
    Mutant(
        "a replay is acknowledged without waiting for the standby",
        WRITER,
        (("            require_replication(connection)\n", "            connection.rollback()\n"),),
        f"{REPLICATION_TESTS}::test_gift_posted_again_waits_for_the_standby",
    ),
    Mutant(
        "a notification of a credited payment gets its response without the standby",
        ORDERS,
        (
            (
                "            require_replication(connection)\n        return _StoredOrder",
                "            pass\n        return _StoredOrder",
            ),
        ),
        f"{RETRY}[notification_of_credited_payment]",
    ),
    Mutant(
        "a retry of an ordered refill locks no row, and gets its response without the standby",
        ORDERS,
        (
            NO_ACTOR_LOCK,
            (
                "            require_replication(connection)\n            return known\n",
                "            return known\n",
            ),
        ),
        f"{RETRY}[retry_of_ordered_refill]",
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
        f"{RETRY}[retry_of_direct_refill]",
    ),
    Mutant(
        "a retry of a gift to a removed host gets its response without the standby",
        "livebackend/services/gifts.py",
        (("            require_replication(connection)\n", ""),),
        f"{RETRY}[retry_of_gift_to_removed_host]",
    ),
    Mutant(
        "a refusal because of an earlier request gets its response without the standby",
        "livebackend/api/deriver.py",
        (("            request.services.database.await_replication()\n", "            pass\n"),),
        f"{RETRY}[delete_of_former_friend]",
    ),
    Mutant(
        "leave is repeatable, but its refusal gets its response without the standby",
        "livebackend/views/room.py",
        (("        already_done=Reason.NOT_LIVE,\n", "        repeatable=True,\n"),),
        f"{RETRY}[leave_of_closed_room]",
    ),
    Mutant(
        "a COMMIT whose wait for the standby was cancelled is acknowledged",
        WRITER,
        (("                if not warnings:\n", "                if outcomes:\n"),),
        f"{REPLICATION_TESTS}::test_cancelled_wait_for_the_standby_is_repeated",
    ),
    Mutant(
        "a request that can't be posted fails its neighbours",
        WRITER,
        (
            (
                (
                    "            for waiting in batch:\n"
                    "                self._settle_alone(database, waiting)\n"
                ),
                "            for waiting in batch:\n                waiting.fail(error)\n",
            ),
        ),
        f"{WRITER_TESTS}::test_a_request_that_can_not_be_posted_fails_alone",
    ),
    Mutant(
        "a payment's amount is not compared with the order",
        "livebackend/services/payment_orders.py",
        (("        if row.fen != payment.fen:\n", "        if False:\n"),),
        f"{PAYMENT_TESTS}::TestNotifications::test_payment_notification_that_differs_from_the_order_returns_400",
    ),
    Mutant(
        "a balance has no limit",
        LEDGER,
        (("        elif _is_over_limit(transfer, spendable, held):", "        elif False:"),),
        f"{GIFT_TESTS}::TestBalanceLimit::test_gift_to_a_host_with_a_full_balance_returns_0013_and_moves_no_coins",
    ),
    Mutant(
        "an order that was closed is not credited",
        LEDGER,
        (("AND state IN ('pending', 'closed')", "AND state = 'pending'"),),
        f"{ORDER_TESTS}::test_payment_that_arrives_after_the_order_was_closed_is_credited",
    ),
    Mutant(
        "an order is claimed for each row of a plan",
        "livebackend/services/payment_reconciliation.py",
        (("WHERE (provider, order_id) = (", "WHERE (provider, order_id) IN ("),),
        f"{ORDER_TESTS}::test_orders_are_claimed_one_by_one_whatever_the_statistics_say",
    ),
    Mutant(
        "the money is returned although the coins could not be reversed",
        "livebackend/services/payment_refunds.py",
        (
            (
                "        if outcome.status is Status.NO_COINS:\n",
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


def copied(folder: Path) -> None:
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    # Where the installed package has them, or those of the tree that is installed would be taken.
    shutil.copytree(ROOT / "migrations", folder / "livebackend" / "migrations")


def mutated(folder: Path, mutant: Mutant) -> None:
    file = folder / mutant.file
    text = file.read_text("utf-8")
    for old, new in mutant.changes:
        if text.count(old) != 1:
            raise click.ClickException(f"{mutant.name}: {old!r} stands {text.count(old)} times")
        text = text.replace(old, new)
    file.write_text(text, "utf-8")


def tried(folder: Path, *tests: str, limit_s: float) -> tuple[int | None, str]:
    """pytest's exit code, None where it took too long, and what it printed."""
    # From the copy, which thereby comes before what is installed.
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rf", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "1000"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return None, str(error.stdout)
    return done.returncode, done.stdout + done.stderr


def hunt(mutant: Mutant) -> tuple[bool, str]:
    """Whether its test kills a mutant, and a line about it."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="livebackend mutant ") as name:
        copied(Path(name))
        mutated(Path(name), mutant)
        code, said = tried(Path(name), mutant.killer, limit_s=KILL_S)
    killed = code == 1 and f"FAILED {mutant.killer}" in said
    line = (
        f"{'killed ' if killed else 'SURVIVED'} {time.monotonic() - started:5.1f} s  {mutant.name}"
    )
    return killed, line if killed else f"{line}\n{said[-2000:]}"


@click.command()
@click.option("--only", default="", help="those whose name has this in it")
def main(only: str) -> None:
    """Mutates a copy of the ledger, again and again, and sees whether the tests notice."""
    mutants = [mutant for mutant in MUTANTS if only in mutant.name]
    with tempfile.TemporaryDirectory(prefix="livebackend mutant ") as name:
        copied(Path(name))
        killers = list(dict.fromkeys(mutant.killer for mutant in mutants))
        code, said = tried(Path(name), *killers, limit_s=300)
    if code != 0:
        raise click.ClickException(f"the tests fail without any mutant:\n{said[-3000:]}")
    click.echo(said.strip().splitlines()[-1])
    again = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mutant, (killed, line) in zip(mutants, pool.map(hunt, mutants), strict=True):
            click.echo(line)
            again += [] if killed else [mutant]
    survived = 0
    for mutant in again:  # by itself: what else the machine does may have cost it its minute
        killed, line = hunt(mutant)
        click.echo(line)
        survived += not killed
    if survived:
        raise click.ClickException(f"{survived} of {len(mutants)} mutants survived")
    click.echo(f"all {len(mutants)} mutants are killed")


if __name__ == "__main__":
    main()
