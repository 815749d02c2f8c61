"""Seals: a stretch of transfers closed for good, hashed, and chained to the stretch before."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from livebackend.database.engine import Database

# Ids are given out before the commit, so a smaller one may come later. Whoever has this lock knows
# that nobody has one that is not committed: an insert takes its own lock first, then an id.
_HOLD_WRITERS = text("LOCK TABLE transfers IN SHARE MODE")
_NEWEST = text("SELECT max(id) FROM transfers")
# One at a time. The number is ours alone.
_ALONE = text("SELECT pg_advisory_xact_lock(5300)")
_NO_TIMEOUT = text("SET LOCAL statement_timeout = 0")

_CHAIN = text(
    """
    SELECT id, through_id, transfers, amount_sum, sha256, previous_sha256
    FROM ledger_checkpoints ORDER BY id
    """
)
_SUMS = text(
    """
    SELECT count(*) AS transfers, coalesce(sum(amount), 0)::bigint AS amount_sum
    FROM transfers WHERE id > :after AND id <= :through
    """
)
# A line says all there is of a transfer; what stands in a row is told apart by its quotes.
_HASH = text(
    """
    SELECT sha256(convert_to(string_agg(
        ROW(id, kind, debit_id, credit_id, amount, actor_id, request_id, reverses_id,
            extract(epoch FROM created_at), host_id, room_id, description)::text,
        chr(10) ORDER BY id), 'UTF8')) AS sha256
    FROM transfers LEFT JOIN (
        SELECT * FROM gifts WHERE transfer_id > :after AND transfer_id <= :through
    ) AS gifts ON transfer_id = id
    WHERE id > :after AND id <= :through
    """
)
# So many ids are hashed at a time, by the server.
_AT_A_TIME = 10_000
_SEAL = text(
    """
    INSERT INTO ledger_checkpoints (through_id, transfers, amount_sum, sha256, previous_sha256)
    VALUES (:through_id, :transfers, :amount_sum, :sha256, :previous_sha256) RETURNING id
    """
)


def _of_deltas(statement: str) -> TextClause:
    """A statement that reads `deltas`: what a stretch of transfers did to each account."""
    deltas = """
        WITH moved AS (
            SELECT debit_id AS account, -amount AS coins FROM transfers
            WHERE id > :after AND id <= :through
            UNION ALL
            SELECT credit_id, amount FROM transfers WHERE id > :after AND id <= :through
        ), deltas AS (
            SELECT account AS coin_account_id, sum(coins)::bigint AS delta
            FROM moved GROUP BY account
        )
    """
    return text("\n".join([deltas, statement]))


_CLOSE = _of_deltas(
    """
    INSERT INTO checkpoint_balances (checkpoint_id, coin_account_id, delta)
    SELECT CAST(:checkpoint_id AS bigint), coin_account_id, delta FROM deltas
    """
)
_WRONG_CLOSINGS = _of_deltas(
    """
    SELECT count(*) FROM deltas
    FULL JOIN (
        SELECT * FROM checkpoint_balances WHERE checkpoint_id = :checkpoint_id
    ) AS closed USING (coin_account_id)
    WHERE deltas.delta IS DISTINCT FROM closed.delta
    """
)


@dataclass(frozen=True)
class Seal:
    """The transfers up to `through_id`, after the seal before: how many, how much, their hash."""

    id: int
    through_id: int
    transfers: int
    amount_sum: int
    sha256: bytes
    previous_sha256: bytes | None


def seal(database: Database) -> Seal | None:
    """Seals all that is committed now and not sealed yet; None if that is nothing.

    Writers wait for as long as it takes those who are at it to commit, and no longer.
    """

    def newest(connection: Connection) -> int | None:
        connection.execute(_HOLD_WRITERS)
        found: int | None = connection.execute(_NEWEST).scalar_one()
        return found

    through = database.run(newest)
    return database.run(lambda connection: _seal(connection, through or 0))


def chain(connection: Connection) -> list[Seal]:
    """All seals, the oldest first."""
    return [_as_seal(row) for row in connection.execute(_CHAIN)]


def faults(connection: Connection, sealed: Sequence[Seal], *, links_only: bool) -> Iterator[str]:
    """What is wrong with the seals, in words; unless `links_only`, with all that they seal."""
    after, previous = 0, None
    for each in sealed:
        if each.previous_sha256 != previous or each.through_id <= after:
            yield f"seal {each.id} is not chained to the one before"
        if not links_only:
            yield from _faults_of(connection, each, after)
        after, previous = each.through_id, each.sha256


def _faults_of(connection: Connection, each: Seal, after: int) -> Iterator[str]:
    stretch = {"after": after, "through": each.through_id, "checkpoint_id": each.id}
    found = _content(connection, each.previous_sha256, after, each.through_id)
    if found != (each.transfers, each.amount_sum, each.sha256):
        yield f"seal {each.id} does not fit the transfers from {after + 1} to {each.through_id}"
    wrong = connection.execute(_WRONG_CLOSINGS, stretch).scalar_one()
    if wrong:
        yield f"seal {each.id} closes {wrong} accounts with a wrong sum"


def _seal(connection: Connection, through: int) -> Seal | None:
    connection.execute(_ALONE)
    connection.execute(_NO_TIMEOUT)
    sealed = chain(connection)
    after, previous = (sealed[-1].through_id, sealed[-1].sha256) if sealed else (0, None)
    if through <= after:
        return None
    transfers, amount_sum, sha256 = _content(connection, previous, after, through)
    row: dict[str, Any] = {
        "through_id": through,
        "transfers": transfers,
        "amount_sum": amount_sum,
        "sha256": sha256,
        "previous_sha256": previous,
    }
    seal_id = connection.execute(_SEAL, row).scalar_one()
    connection.execute(_CLOSE, {"checkpoint_id": seal_id, "after": after, "through": through})
    return Seal(id=seal_id, **row)


def _content(
    connection: Connection, previous: bytes | None, after: int, through: int
) -> tuple[int, int, bytes]:
    """How many transfers, how much, and the hash of both, of each transfer, and of the chain."""
    stretch = {"after": after, "through": through}
    sums = connection.execute(_SUMS, stretch).one()
    digest = hashlib.sha256(previous or b"")
    digest.update(f"{after} {through} {sums.transfers} {sums.amount_sum}".encode())
    for first in range(after, through, _AT_A_TIME):
        some = {"after": first, "through": min(first + _AT_A_TIME, through)}
        digest.update(connection.execute(_HASH, some).scalar_one() or b"")
    return sums.transfers, sums.amount_sum, digest.digest()


def _as_seal(row: Row[Any]) -> Seal:
    values = row._asdict()
    previous = values["previous_sha256"]
    return Seal(
        **{
            **values,
            "sha256": bytes(values["sha256"]),
            "previous_sha256": None if previous is None else bytes(previous),
        }
    )
