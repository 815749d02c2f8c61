"""Consistency checks of the ledger: balances, transfers, orders and checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, TextClause, text

from livebackend.database.engine import Database, disable_timeouts
from livebackend.ledger import checkpoints

# Maximum number of findings of one check: a single error can affect every account.
_MAX_FINDINGS_PER_CHECK = 100

_USE_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
_INCREASE_MEMORY = text("SET LOCAL work_mem = '64MB'")

_SELECT_TOTALS = text(
    """
    SELECT now() AS audited_at, (SELECT count(*) FROM transfers WHERE id > :since) AS transfers,
        (SELECT coalesce(sum(amount), 0)::bigint FROM coin_slots) AS coins
    """
)


@dataclass(frozen=True)
class _Check:
    """A consistency check: each row that `statement` returns describes one error."""

    name: str
    statement: TextClause


def _check(name: str, statement: str) -> _Check:
    return _Check(name, text(f"{statement} LIMIT {_MAX_FINDINGS_PER_CHECK}"))


_CHECKS = [
    _check(
        "negative balances",
        """
        SELECT format('account %s has %s coins in slot %s', coin_account_id, amount, slot)
        FROM coin_slots WHERE amount < 0
        """,
    ),
    _check(
        "balances that differ from the transfers",
        # The transfers up to :since are not read again: the checkpoints contain their sums.
        """
        WITH moved AS (
            SELECT debit_id AS id, -amount AS coins FROM transfers WHERE id > :since
            UNION ALL
            SELECT credit_id, amount FROM transfers WHERE id > :since
            UNION ALL
            SELECT coin_account_id, delta FROM checkpoint_balances
                JOIN ledger_checkpoints ON ledger_checkpoints.id = checkpoint_id
                WHERE through_id <= :since
        ), expected AS (
            SELECT id, sum(coins) AS coins FROM moved GROUP BY id
        ), held AS (
            SELECT coin_account_id AS id, sum(amount) AS coins FROM coin_slots GROUP BY 1
        )
        SELECT format('account %s has %s coins, but its transfers add up to %s',
            id, coalesce(held.coins, 0), coalesce(expected.coins, 0))
        FROM expected FULL JOIN held USING (id) JOIN coin_accounts USING (id)
        WHERE provider IS NULL AND coalesce(held.coins, 0) <> coalesce(expected.coins, 0)
        """,
    ),
    _check(
        "total of all balances that differs from the coins received from providers",
        """
        WITH external AS (SELECT id FROM coin_accounts WHERE provider IS NOT NULL),
        moved AS (
            SELECT sum(amount) AS coins FROM transfers
            WHERE id > :since AND debit_id IN (SELECT id FROM external)
            UNION ALL
            SELECT -sum(amount) FROM transfers
            WHERE id > :since AND credit_id IN (SELECT id FROM external)
            UNION ALL
            SELECT -sum(delta) FROM checkpoint_balances
                JOIN ledger_checkpoints ON ledger_checkpoints.id = checkpoint_id
            WHERE through_id <= :since AND coin_account_id IN (SELECT id FROM external)
        ), totals AS (
            SELECT (SELECT coalesce(sum(coins), 0) FROM moved) AS received,
                (SELECT coalesce(sum(amount), 0) FROM coin_slots) AS held
        )
        SELECT format('%s coins were received from providers, all balances add up to %s',
            received, held)
        FROM totals WHERE received <> held
        """,
    ),
    _check(
        "request ids with more than one transfer",
        """
        SELECT format('account %s has request %s in %s transfers', actor_id, request_id, count(*))
        FROM transfers WHERE id > :since
        GROUP BY actor_id, request_id HAVING count(*) > 1
        """,
    ),
    _check(
        "transfers whose kind does not match their accounts",
        """
        WITH external AS (SELECT id FROM coin_accounts WHERE provider IS NOT NULL),
        checked AS (
            SELECT id, kind, debit_id IN (SELECT id FROM external) AS debits_external,
                credit_id IN (SELECT id FROM external) AS credits_external
            FROM transfers WHERE id > :since
        )
        SELECT format('transfer %s of kind %s debits %s account and credits %s account', id, kind,
            CASE WHEN debits_external THEN 'a provider''s' ELSE 'a user''s' END,
            CASE WHEN credits_external THEN 'a provider''s' ELSE 'a user''s' END)
        FROM checked
        WHERE debits_external <> (kind = 2) OR credits_external AND kind <> 9
        """,
    ),
    _check(
        "gifts without a transfer, or transfers without their gift",
        """
        SELECT format('gift with transfer id %s is missing in the table gifts or transfers',
            coalesce(id, transfer_id))
        FROM (SELECT id FROM transfers WHERE kind = 1 AND id > :since) AS gift_transfers
        FULL JOIN (SELECT transfer_id FROM gifts WHERE transfer_id > :since) AS new_gifts
            ON transfer_id = id
        WHERE id IS NULL OR transfer_id IS NULL
        """,
    ),
    _check(
        "paid orders that differ from their transfer",
        """
        SELECT format('order %s at %s was paid for %s coins, transfer %s moved %s',
            order_id, payment_orders.provider, coins, transfer_id, amount)
        FROM payment_orders JOIN coin_accounts AS owner ON owner.owner_id = account_id
        LEFT JOIN (transfers JOIN coin_accounts AS source ON source.id = debit_id)
            ON transfers.id = transfer_id
        WHERE state NOT IN ('pending', 'closed')
            AND (transfers.id IS NULL OR kind <> 2 OR amount <> coins
            OR credit_id <> owner.id OR source.provider <> payment_orders.provider)
        """,
    ),
    _check(
        "paid orders whose coins were reversed by a refund",
        # Reversals by operators are left out: they have a row in reversal_requests, and their
        # orders stay paid.
        """
        SELECT format('order %s at %s is paid, but transfer %s is reversed: run order refund again',
            order_id, provider, payment_orders.transfer_id)
        FROM payment_orders WHERE state = 'paid'
            AND EXISTS (SELECT FROM transfers WHERE reverses_id = payment_orders.transfer_id)
            AND NOT EXISTS (SELECT FROM reversal_requests
                WHERE reversal_requests.transfer_id = payment_orders.transfer_id)
        """,
    ),
    _check(
        "refunds that the provider has not completed",
        # The server sends the 30th refund request about a day after it has reversed the coins. A
        # refund that takes longer is an error.
        """
        SELECT format('order %s at %s: the provider has not completed the refund after %s requests',
            order_id, provider, query_attempts)
        FROM payment_orders WHERE state = 'refunding' AND query_attempts >= 30
        """,
    ),
    _check(
        "refunded orders whose coins were not reversed",
        """
        SELECT format('order %s at %s is refunded, but transfer %s is not reversed',
            order_id, provider, transfer_id)
        FROM payment_orders WHERE state = 'refunded'
            AND NOT EXISTS (SELECT FROM transfers WHERE reverses_id = transfer_id)
        """,
    ),
    _check(
        "refills without a paid order",
        """
        SELECT format('refill %s from %s has no order', transfers.id, provider)
        FROM transfers JOIN coin_accounts ON coin_accounts.id = debit_id
        WHERE kind = 2 AND transfers.id > :since AND provider <> 'direct'
            AND NOT EXISTS (SELECT FROM payment_orders WHERE transfer_id = transfers.id)
        """,
    ),
    _check(
        "reversals that differ from the reversed transfer",
        """
        SELECT format('transfer %s is not the exact reversal of transfer %s', reversal.id,
            reversed.id)
        FROM transfers AS reversal JOIN transfers AS reversed ON reversed.id = reversal.reverses_id
        WHERE reversal.id > :since AND (reversal.amount, reversal.debit_id, reversal.credit_id)
            <> (reversed.amount, reversed.credit_id, reversed.debit_id) OR reversed.kind = 9
        """,
    ),
    _check(
        "pending reversals",
        """
        SELECT format('reversal of transfer %s is pending since %s: %s', transfer_id,
            to_char(created_at, 'YYYY-MM-DD HH24:MI'), reason)
        FROM reversal_requests
        WHERE NOT EXISTS (SELECT FROM transfers WHERE reverses_id = transfer_id)
        """,
    ),
]

CHECK_NAMES = [*(check.name for check in _CHECKS), "checkpoints that do not match the transfers"]


class AuditFinding(NamedTuple):
    """An inconsistency that a check of the audit found."""

    check: str
    detail: str


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit; `audited_at` is the time of the database snapshot."""

    audited_at: str
    transfers: int
    coins: int
    findings: list[AuditFinding]


def audit(
    database: Database,
    *,
    since_checkpoint: bool,
    on_check_started: Callable[[str], None] = lambda name: None,
) -> AuditReport:
    """Run all checks on one snapshot of the ledger, without blocking writers.

    With `since_checkpoint`, only transfers after the newest checkpoint are read; for older
    transfers, the sums in the checkpoints are used. `on_check_started` is called with the name of
    each check before the check runs.
    """
    with database.engine.connect() as connection, connection.begin():
        connection.execute(_USE_SNAPSHOT)
        disable_timeouts(connection)
        connection.execute(_INCREASE_MEMORY)
        return run_checks(
            connection, since_checkpoint=since_checkpoint, on_check_started=on_check_started
        )


def run_checks(
    connection: Connection, *, since_checkpoint: bool, on_check_started: Callable[[str], None]
) -> AuditReport:
    """Run all checks of the audit in the caller's REPEATABLE READ transaction."""
    all_checkpoints = checkpoints.list_checkpoints(connection)
    checkpointed_transfer_id = all_checkpoints[-1].through_id if all_checkpoints else 0
    parameters = {"since": checkpointed_transfer_id if since_checkpoint else 0}
    totals = connection.execute(_SELECT_TOTALS, parameters).one()
    findings: list[AuditFinding] = []
    for check in _CHECKS:
        on_check_started(check.name)
        details = connection.execute(check.statement, parameters).scalars()
        findings.extend(AuditFinding(check.name, detail) for detail in details)
    on_check_started(CHECK_NAMES[-1])
    errors = checkpoints.checkpoint_errors(connection, all_checkpoints, chain_only=since_checkpoint)
    findings.extend(AuditFinding(CHECK_NAMES[-1], error) for error in errors)
    return AuditReport(totals.audited_at.isoformat(), totals.transfers, totals.coins, findings)
