"""An auditor's look at the books: whether every coin is where the transfers say it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, TextClause, text

from livebackend.database.engine import Database
from livebackend.ledger import checkpoints

# Of each check; where one account is wrong, a million may be.
_FINDINGS_MAX = 100

_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
_NO_TIMEOUT = text("SET LOCAL statement_timeout = 0")
_MORE_MEMORY = text("SET LOCAL work_mem = '64MB'")

_SIZE = text(
    """
    SELECT now() AS at, (SELECT count(*) FROM transfers WHERE id > :since) AS transfers,
        (SELECT coalesce(sum(amount), 0)::bigint FROM coin_slots) AS coins
    """
)


@dataclass(frozen=True)
class _Check:
    """A statement whose every row is something wrong, in words."""

    name: str
    statement: TextClause


def _check(name: str, statement: str) -> _Check:
    return _Check(name, text(f"{statement} LIMIT {_FINDINGS_MAX}"))


_CHECKS = [
    _check(
        "balances that are negative",
        """
        SELECT format('account %s has %s coins in slot %s', coin_account_id, amount, slot)
        FROM coin_slots WHERE amount < 0
        """,
    ),
    _check(
        "balances that differ from the history",
        # Checkpoints contain the sums of the transfers before them, which are not read again.
        """
        WITH moved AS (
            SELECT debit_id AS id, -amount AS coins FROM transfers WHERE id > :since
            UNION ALL
            SELECT credit_id, amount FROM transfers WHERE id > :since
            UNION ALL
            SELECT coin_account_id, delta FROM checkpoint_balances
                JOIN ledger_checkpoints ON ledger_checkpoints.id = checkpoint_id
                WHERE through_id <= :since
        ), history AS (
            SELECT id, sum(coins) AS coins FROM moved GROUP BY id
        ), held AS (
            SELECT coin_account_id AS id, sum(amount) AS coins FROM coin_slots GROUP BY 1
        )
        SELECT format('account %s holds %s coins, its transfers left %s',
            id, coalesce(held.coins, 0), coalesce(history.coins, 0))
        FROM history FULL JOIN held USING (id) JOIN coin_accounts USING (id)
        WHERE provider IS NULL AND coalesce(held.coins, 0) <> coalesce(history.coins, 0)
        """,
    ),
    _check(
        "coins that came in, less those that went out, and are not held",
        """
        WITH outside AS (SELECT id FROM coin_accounts WHERE provider IS NOT NULL),
        moved AS (
            SELECT sum(amount) AS coins FROM transfers
            WHERE id > :since AND debit_id IN (SELECT id FROM outside)
            UNION ALL
            SELECT -sum(amount) FROM transfers
            WHERE id > :since AND credit_id IN (SELECT id FROM outside)
            UNION ALL
            SELECT -sum(delta) FROM checkpoint_balances
                JOIN ledger_checkpoints ON ledger_checkpoints.id = checkpoint_id
            WHERE through_id <= :since AND coin_account_id IN (SELECT id FROM outside)
        ), books AS (
            SELECT (SELECT coalesce(sum(coins), 0) FROM moved) AS came,
                (SELECT coalesce(sum(amount), 0) FROM coin_slots) AS held
        )
        SELECT format('%s coins came in and stayed, %s are held', came, held)
        FROM books WHERE came <> held
        """,
    ),
    _check(
        "request ids that were done twice",
        """
        SELECT format('account %s has request %s in %s transfers', actor_id, request_id, count(*))
        FROM transfers WHERE id > :since
        GROUP BY actor_id, request_id HAVING count(*) > 1
        """,
    ),
    _check(
        "transfers of a wrong kind",
        """
        WITH outside AS (SELECT id FROM coin_accounts WHERE provider IS NOT NULL),
        seen AS (
            SELECT id, kind, debit_id IN (SELECT id FROM outside) AS from_outside,
                credit_id IN (SELECT id FROM outside) AS to_outside
            FROM transfers WHERE id > :since
        )
        SELECT format('transfer %s of kind %s %s an account outside', id, kind,
            CASE WHEN from_outside THEN 'comes from' ELSE 'goes to' END)
        FROM seen
        WHERE from_outside <> (kind = 2) OR to_outside AND kind <> 9
        """,
    ),
    _check(
        "gifts without a transfer, and the reverse",
        """
        SELECT format('transfer %s is a gift in one table only', coalesce(id, transfer_id))
        FROM (SELECT id FROM transfers WHERE kind = 1 AND id > :since) AS given
        FULL JOIN (SELECT transfer_id FROM gifts WHERE transfer_id > :since) AS told
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
        # A reversal by an operator has a row in reversal_requests, and leaves the order paid.
        """
        SELECT format('order %s at %s is paid, transfer %s is reversed: run order refund again',
            order_id, provider, payment_orders.transfer_id)
        FROM payment_orders WHERE state = 'paid'
            AND EXISTS (SELECT FROM transfers WHERE reverses_id = payment_orders.transfer_id)
            AND NOT EXISTS (SELECT FROM reversal_requests
                WHERE reversal_requests.transfer_id = payment_orders.transfer_id)
        """,
    ),
    _check(
        "refunds that the provider has not made",
        # About a day after the coins were reversed.
        """
        SELECT format('order %s at %s: the provider has not made the refund after %s requests',
            order_id, provider, query_attempts)
        FROM payment_orders WHERE state = 'refunding' AND query_attempts >= 30
        """,
    ),
    _check(
        "refunded orders whose coins were not reversed",
        """
        SELECT format('order %s at %s is refunded, transfer %s is not reversed',
            order_id, provider, transfer_id)
        FROM payment_orders WHERE state = 'refunded'
            AND NOT EXISTS (SELECT FROM transfers WHERE reverses_id = transfer_id)
        """,
    ),
    _check(
        "refills that no order was paid for",
        """
        SELECT format('transfer %s came from %s without an order', transfers.id, provider)
        FROM transfers JOIN coin_accounts ON coin_accounts.id = debit_id
        WHERE kind = 2 AND transfers.id > :since AND provider <> 'direct'
            AND NOT EXISTS (SELECT FROM payment_orders WHERE transfer_id = transfers.id)
        """,
    ),
    _check(
        "reversals that differ from what they reverse",
        """
        SELECT format('transfer %s does not reverse %s', back.id, there.id)
        FROM transfers AS back JOIN transfers AS there ON there.id = back.reverses_id
        WHERE back.id > :since AND (back.amount, back.debit_id, back.credit_id)
            <> (there.amount, there.credit_id, there.debit_id) OR there.kind = 9
        """,
    ),
    _check(
        "reversals that are open",
        """
        SELECT format('transfer %s is to be reversed since %s: %s', transfer_id,
            to_char(created_at, 'YYYY-MM-DD HH24:MI'), reason)
        FROM reversal_requests
        WHERE NOT EXISTS (SELECT FROM transfers WHERE reverses_id = transfer_id)
        """,
    ),
]

NAMES = [*(check.name for check in _CHECKS), "seals that do not fit the transfers"]


class Finding(NamedTuple):
    """Something that is wrong, in words."""

    check: str
    detail: str


@dataclass(frozen=True)
class Audit:
    """What was found at one moment, and in how much."""

    at: str
    transfers: int
    coins: int
    findings: list[Finding]


def audit(
    database: Database, *, since_seal: bool, begun: Callable[[str], None] = lambda name: None
) -> Audit:
    """Looks at the books as they are at one moment, while they go on being written.

    `since_seal` believes what the seals say of the transfers before the newest of them, and reads
    only what is new. `begun` is told the name of each check.
    """
    with database.engine.connect() as connection, connection.begin():
        connection.execute(_SNAPSHOT)
        connection.execute(_NO_TIMEOUT)
        connection.execute(_MORE_MEMORY)
        return look(connection, since_seal=since_seal, begun=begun)


def look(connection: Connection, *, since_seal: bool, begun: Callable[[str], None]) -> Audit:
    """Makes each check, in a transaction whose statements all see the same."""
    sealed = checkpoints.chain(connection)
    since = {"since": sealed[-1].through_id if since_seal and sealed else 0}
    size = connection.execute(_SIZE, since).one()
    findings: list[Finding] = []
    for check in _CHECKS:
        begun(check.name)
        details = connection.execute(check.statement, since).scalars()
        findings.extend(Finding(check.name, detail) for detail in details)
    begun(NAMES[-1])
    wrong = checkpoints.faults(connection, sealed, links_only=since_seal)
    findings.extend(Finding(NAMES[-1], detail) for detail in wrong)
    return Audit(size.at.isoformat(), size.transfers, size.coins, findings)
