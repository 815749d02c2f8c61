"""Checkpoints: hashes over ranges of transfers, each chained to the previous one."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from livebackend.database.engine import Database, disable_timeouts

# Transfers do not commit in the order of their ids. While a transaction holds this lock, no other
# transaction has an uncommitted transfer, because an INSERT locks the table before it generates an
# id.
_BLOCK_INSERTS = text("LOCK TABLE transfers IN SHARE MODE")
_FIND_NEWEST_ID = text("SELECT max(id) FROM transfers")
# Serializes the creation of checkpoints. No other advisory lock may use the number 5300.
_LOCK_CREATION = text("SELECT pg_advisory_xact_lock(5300)")

_LIST_CHECKPOINTS = text(
    """
    SELECT id, through_id, transfers, amount_sum, sha256, previous_sha256
    FROM ledger_checkpoints ORDER BY id
    """
)
_SUM_TRANSFERS = text(
    """
    SELECT count(*) AS transfers, coalesce(sum(amount), 0)::bigint AS amount_sum
    FROM transfers WHERE id > :after AND id <= :through
    """
)
# Hashes one line of text per transfer, with all columns of the transfer and its gift. The text form
# of a row quotes its values, so different rows have different lines.
_HASH_TRANSFERS = text(
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
# Each execution of the hash query covers this many transfer ids. Changing the number changes the
# hashes, so existing checkpoints would no longer match.
_IDS_PER_HASH = 10_000
_INSERT_CHECKPOINT = text(
    """
    INSERT INTO ledger_checkpoints (through_id, transfers, amount_sum, sha256, previous_sha256)
    VALUES (:through_id, :transfers, :amount_sum, :sha256, :previous_sha256) RETURNING id
    """
)


def _with_deltas(statement: str) -> TextClause:
    """Return the statement with the common table expression `deltas` added.

    `deltas` has a row per coin account: the sum by which the transfers after :after, up to
    :through, changed its balance.
    """
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


_INSERT_BALANCES = _with_deltas(
    """
    INSERT INTO checkpoint_balances (checkpoint_id, coin_account_id, delta)
    SELECT CAST(:checkpoint_id AS bigint), coin_account_id, delta FROM deltas
    """
)
_COUNT_WRONG_BALANCES = _with_deltas(
    """
    SELECT count(*) FROM deltas
    FULL JOIN (
        SELECT * FROM checkpoint_balances WHERE checkpoint_id = :checkpoint_id
    ) AS stored USING (coin_account_id)
    WHERE deltas.delta IS DISTINCT FROM stored.delta
    """
)


@dataclass(frozen=True)
class Checkpoint:
    """Covers the transfers after the previous checkpoint, up to `through_id`."""

    id: int
    through_id: int
    transfers: int
    amount_sum: int
    sha256: bytes
    previous_sha256: bytes | None


def create_checkpoint(database: Database) -> Checkpoint | None:
    """Create a checkpoint of the transfers since the previous checkpoint.

    Returns None if there are no such transfers. New transfers wait only until all transactions
    that have already inserted transfers end; they do not wait for the hashing.
    """

    def find_newest_id(connection: Connection) -> int | None:
        connection.execute(_BLOCK_INSERTS)
        newest_id: int | None = connection.execute(_FIND_NEWEST_ID).scalar_one()
        return newest_id

    through_id = database.run(find_newest_id)
    return database.run(lambda connection: _create(connection, through_id or 0))


def list_checkpoints(connection: Connection) -> list[Checkpoint]:
    """Return all checkpoints, oldest first."""
    return [_from_row(row) for row in connection.execute(_LIST_CHECKPOINTS)]


def checkpoint_errors(
    connection: Connection, checkpoints: Sequence[Checkpoint], *, chain_only: bool
) -> Iterator[str]:
    """Yield a description of each error in the checkpoints.

    With `chain_only`, it checks that each checkpoint contains the hash of the previous one, but
    reads no transfers.
    """
    after_id, previous_sha256 = 0, None
    for checkpoint in checkpoints:
        if checkpoint.previous_sha256 != previous_sha256 or checkpoint.through_id <= after_id:
            yield f"checkpoint {checkpoint.id} does not continue the previous checkpoint"
        if not chain_only:
            yield from _content_errors(connection, checkpoint, after_id)
        after_id, previous_sha256 = checkpoint.through_id, checkpoint.sha256


def _content_errors(connection: Connection, checkpoint: Checkpoint, after_id: int) -> Iterator[str]:
    through_id = checkpoint.through_id
    content = _read_content(connection, checkpoint.previous_sha256, after_id, through_id)
    if content != (checkpoint.transfers, checkpoint.amount_sum, checkpoint.sha256):
        yield (
            f"checkpoint {checkpoint.id} does not match"
            f" the transfers {after_id + 1} to {through_id}"
        )
    values = {"after": after_id, "through": through_id, "checkpoint_id": checkpoint.id}
    wrong_balance_count = connection.execute(_COUNT_WRONG_BALANCES, values).scalar_one()
    if wrong_balance_count:
        yield f"checkpoint {checkpoint.id} has a wrong sum for {wrong_balance_count} accounts"


def _create(connection: Connection, through_id: int) -> Checkpoint | None:
    connection.execute(_LOCK_CREATION)
    disable_timeouts(connection)
    checkpoints = list_checkpoints(connection)
    newest_checkpoint = checkpoints[-1] if checkpoints else None
    after_id, previous_sha256 = (
        (newest_checkpoint.through_id, newest_checkpoint.sha256) if newest_checkpoint else (0, None)
    )
    if through_id <= after_id:
        return None
    transfers, amount_sum, sha256 = _read_content(connection, previous_sha256, after_id, through_id)
    row: dict[str, Any] = {
        "through_id": through_id,
        "transfers": transfers,
        "amount_sum": amount_sum,
        "sha256": sha256,
        "previous_sha256": previous_sha256,
    }
    checkpoint_id = connection.execute(_INSERT_CHECKPOINT, row).scalar_one()
    values = {"checkpoint_id": checkpoint_id, "after": after_id, "through": through_id}
    connection.execute(_INSERT_BALANCES, values)
    return Checkpoint(id=checkpoint_id, **row)


def _read_content(
    connection: Connection, previous_sha256: bytes | None, after_id: int, through_id: int
) -> tuple[int, int, bytes]:
    """Return the number of transfers, their sum in coins, and the checkpoint's hash."""
    sums = connection.execute(_SUM_TRANSFERS, {"after": after_id, "through": through_id}).one()
    digest = hashlib.sha256(previous_sha256 or b"")
    digest.update(f"{after_id} {through_id} {sums.transfers} {sums.amount_sum}".encode())
    for start_id in range(after_id, through_id, _IDS_PER_HASH):
        id_range = {"after": start_id, "through": min(start_id + _IDS_PER_HASH, through_id)}
        digest.update(connection.execute(_HASH_TRANSFERS, id_range).scalar_one() or b"")
    return sums.transfers, sums.amount_sum, digest.digest()


def _from_row(row: Row[Any]) -> Checkpoint:
    values = row._asdict()
    previous_sha256 = values["previous_sha256"]
    return Checkpoint(
        **{
            **values,
            "sha256": bytes(values["sha256"]),
            "previous_sha256": None if previous_sha256 is None else bytes(previous_sha256),
        }
    )
