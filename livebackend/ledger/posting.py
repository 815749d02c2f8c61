"""Posting of transfers: the only code that changes balances."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from livebackend.database.prepared_statements import PreparedStatement
from livebackend.ledger.transfers import Transfer, TransferOutcome, TransferStatus
from livebackend.models import CREDIT_SLOTS, MAX_SLOT_COINS

# Some statements and functions are public, because tests replace them with incorrect versions and
# check that a constraint or the audit detects the error.
SLOTS = range(1 + CREDIT_SLOTS)

# A transfer with one of these statuses is not stored, so it has no id.
_UNSTORED_STATUSES = {TransferStatus.INSUFFICIENT_COINS, TransferStatus.BALANCE_LIMIT}

# Locks slot 0 of the actors. In addition, returns the credited accounts without the credited slot,
# with NULL as their amount, so that the usual batch needs no INSERT of slots.
LOCK_ACTORS = PreparedStatement(
    text(
        """
    WITH actors AS (
        SELECT coin_account_id, amount FROM coin_slots
        WHERE slot = 0 AND coin_account_id = ANY(CAST(:actors AS bigint[]))
        ORDER BY coin_account_id FOR NO KEY UPDATE
    )
    SELECT coin_account_id, amount FROM actors
    UNION ALL
    SELECT account, NULL FROM unnest(CAST(:credited AS bigint[])) AS account
    WHERE NOT EXISTS (
        SELECT FROM coin_slots WHERE coin_account_id = account AND slot = :credit_slot)
    """
    )
)
_FIND_POSTED = PreparedStatement(
    text(
        """
    SELECT actor_id, request_id, id,
        kind, debit_id, credit_id, amount, gifts.description, reverses_id
    FROM unnest(CAST(:actors AS bigint[]), CAST(:request_ids AS uuid[])) AS lookup (actor, request)
    JOIN transfers ON actor_id = lookup.actor AND request_id = lookup.request
    LEFT JOIN gifts ON transfer_id = id
    UNION ALL
    SELECT actor, request, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM unnest(CAST(:actors AS bigint[]), CAST(:request_ids AS uuid[])) AS lookup (actor, request)
    JOIN payment_orders ON payment_orders.request_id = lookup.request
    """
    )
)
INSERT_SLOTS = PreparedStatement(
    text(
        """
    INSERT INTO coin_slots (coin_account_id, slot)
    SELECT account, slot
    FROM unnest(CAST(:accounts AS bigint[]), CAST(:slots AS smallint[])) AS target (account, slot)
    ORDER BY account, slot
    ON CONFLICT DO NOTHING
    """
    )
)
_LOCK_SLOTS = PreparedStatement(
    text(
        """
    SELECT coin_slots.coin_account_id, coin_slots.slot, amount
    FROM unnest(CAST(:accounts AS bigint[]), CAST(:slots AS smallint[])) AS target (account, slot)
    JOIN coin_slots ON coin_account_id = target.account AND coin_slots.slot = target.slot
    ORDER BY coin_slots.coin_account_id, coin_slots.slot
    FOR NO KEY UPDATE OF coin_slots
    """
    )
)
# All rows that a batch changes, except payment orders: one round trip instead of three.
WRITE_TRANSFERS = PreparedStatement(
    text(
        """
    WITH updated AS (
        UPDATE coin_slots SET amount = amount + delta
        FROM unnest(
            CAST(:accounts AS bigint[]), CAST(:slots AS smallint[]), CAST(:deltas AS bigint[])
        ) AS change (account, slot, delta)
        WHERE coin_account_id = change.account AND coin_slots.slot = change.slot
    ), accepted AS (
        SELECT * FROM unnest(
            CAST(:kinds AS smallint[]), CAST(:debits AS bigint[]), CAST(:credits AS bigint[]),
            CAST(:amounts AS bigint[]), CAST(:actors AS bigint[]), CAST(:request_ids AS uuid[]),
            CAST(:reverses AS bigint[]), CAST(:hosts AS bigint[]), CAST(:rooms AS bigint[]),
            CAST(:descriptions AS text[])
        ) AS accepted (kind, debit_id, credit_id, amount, actor_id, request_id, reverses_id,
            host_id, room_id, description)
    ), posted AS (
        INSERT INTO transfers
            (kind, debit_id, credit_id, amount, actor_id, request_id, reverses_id)
        SELECT kind, debit_id, credit_id, amount, actor_id, request_id, reverses_id FROM accepted
        RETURNING actor_id, request_id, id
    ), given AS (
        INSERT INTO gifts (transfer_id, host_id, room_id, description)
        SELECT id, host_id, room_id, description
        FROM posted JOIN accepted USING (actor_id, request_id) WHERE host_id IS NOT NULL
    ), inserted_events AS (
        INSERT INTO outbox_events (type, transfer_ids)
        SELECT 'coins_changed', array_agg(id ORDER BY id) FROM posted
        HAVING CAST(:writes_events AS boolean) AND count(*) > 0
    )
    SELECT actor_id, request_id, id FROM posted
    """
    )
)
_SETTLE_ORDERS = text(
    """
    UPDATE payment_orders
    SET state = 'paid', payment_id = paid.payment_id, paid_at = coalesce(paid.paid_at, now()),
        transfer_id = paid.transfer_id, next_query_at = NULL
    FROM unnest(CAST(:providers AS text[]), CAST(:order_ids AS text[]),
        CAST(:payment_ids AS text[]), CAST(:paid_at AS timestamptz[]),
        CAST(:transfer_ids AS bigint[]))
        AS paid (provider, order_id, payment_id, paid_at, transfer_id)
    WHERE payment_orders.provider = paid.provider AND payment_orders.order_id = paid.order_id
        AND state IN ('pending', 'closed')
    """
)


def post(
    connection: Connection,
    transfers: Sequence[Transfer],
    writer_number: int,
    *,
    writes_events: bool = False,
) -> list[TransferOutcome]:
    """Post transfers as if one after the other; return their outcomes in this order.

    `writer_number` selects the slot (balance shard) that is credited: writers that credit different
    slots of an account seldom wait for each other's locks. The isolation level must be READ
    COMMITTED. The caller must commit before it reports any outcome. With `writes_events`, the
    new transfers have events in the outbox.

    All writers must lock in the same order to avoid deadlocks: first slot 0 of all actors by
    account, then all other slots in one statement by (account, slot). Missing slots are inserted
    between these two steps, also by (account, slot). An INSERT waits for a transaction that
    inserted or updated the same row, but not for a transaction that only locked the row. A writer
    updates slots only after it has all its locks.

    Raises LookupError for an actor without slot 0, and for a payment order that cannot be settled.
    """
    actors = sorted({transfer.actor_id for transfer in transfers})
    if not actors:
        return []
    credit_slot = 1 + writer_number % CREDIT_SLOTS
    spendable, without_slot = lock_actors(connection, actors, transfers, credit_slot)
    # This query runs after the lock, so that it sees what the previous lock holder has committed.
    posted = find_posted(connection, transfers)
    new_transfers = [transfer for transfer in transfers if transfer.key not in posted]
    insufficient_accounts = _insufficient_accounts(new_transfers, spendable)
    _insert_slots(connection, without_slot & _credited_accounts(new_transfers), credit_slot)
    amounts = lock_slots(connection, new_transfers, insufficient_accounts, credit_slot)
    for account in insufficient_accounts:
        spendable[account] = sum(amounts.get((account, slot), 0) for slot in SLOTS)

    credited_amounts = {
        account: amount for (account, slot), amount in amounts.items() if slot == credit_slot
    }
    statuses, accepted = _decide_statuses(transfers, posted, spendable, credited_amounts)
    ids = {key: transfer.id for key, transfer in posted.items()}
    if accepted:
        deltas = _balance_deltas(accepted, insufficient_accounts, amounts, credit_slot)
        ids |= write_transfers(connection, accepted, deltas, writes_events=writes_events)
        _settle_orders(connection, accepted, ids)
    # A rejected transfer has no id. `ids` can contain its request id, because a later transfer of
    # the batch can have an equal request id and be posted.
    return [
        TransferOutcome(status, None if status in _UNSTORED_STATUSES else ids[transfer.key])
        for status, transfer in zip(statuses, transfers, strict=True)
    ]


class PostedTransfer(NamedTuple):
    """The id and content of an earlier transfer, found by actor and request id.

    If a payment order has the request id, `id` is None, and `content` differs from that of every
    transfer.
    """

    id: int | None
    content: tuple[object, ...]


TransferKey = tuple[int, uuid.UUID]
PostedTransfers = dict[TransferKey, PostedTransfer]


def lock_actors(
    connection: Connection, actors: Sequence[int], transfers: Sequence[Transfer], credit_slot: int
) -> tuple[dict[int, int], set[int]]:
    """Lock slot 0 of all actors.

    Returns the amounts of slot 0 by account, and the credited accounts without the credited slot.
    """
    rows = LOCK_ACTORS.run(
        connection,
        {
            "actors": actors,
            "credited": list(_credited_accounts(transfers)),
            "credit_slot": credit_slot,
        },
    )
    spendable = {row.coin_account_id: row.amount for row in rows if row.amount is not None}
    if len(spendable) < len(actors):
        raise LookupError(
            "no row of slot 0 in coin_slots for the coin accounts"
            f" {sorted(set(actors) - spendable.keys())}"
        )
    return spendable, {row.coin_account_id for row in rows if row.amount is None}


def _credited_accounts(transfers: Sequence[Transfer]) -> set[int]:
    return {transfer.credit.id for transfer in transfers if not transfer.credit.external}


def find_posted(connection: Connection, transfers: Sequence[Transfer]) -> PostedTransfers:
    """Return the earlier transfers and orders with these actors and request ids."""
    values = {
        "actors": [transfer.actor_id for transfer in transfers],
        "request_ids": [str(transfer.request_id) for transfer in transfers],
    }
    return {
        (row.actor_id, row.request_id): PostedTransfer(row.id, tuple(row[3:]))
        for row in _FIND_POSTED.run(connection, values)
    }


def _insufficient_accounts(transfers: Sequence[Transfer], spendable: dict[int, int]) -> set[int]:
    """Return the accounts whose spendable coins (slot 0) are fewer than the transfers debit."""
    debited_coins: Counter[int] = Counter()
    for transfer in transfers:
        if not transfer.debit.external:
            debited_coins[transfer.actor_id] += transfer.amount
    return {account for account, coins in debited_coins.items() if coins > spendable[account]}


def _insert_slots(connection: Connection, accounts: set[int], slot: int) -> None:
    if accounts:
        values = {"accounts": list(accounts), "slots": [slot] * len(accounts)}
        INSERT_SLOTS.run(connection, values)


def lock_slots(
    connection: Connection,
    transfers: Sequence[Transfer],
    insufficient_accounts: set[int],
    credit_slot: int,
) -> dict[tuple[int, int], int]:
    """Lock all slots of the `insufficient_accounts`, and the credited slots.

    Returns the amounts of the locked slots by (account, slot).
    """
    slots_to_lock = {(account, credit_slot) for account in _credited_accounts(transfers)}
    slots_to_lock |= {(account, slot) for account in insufficient_accounts for slot in SLOTS}
    if not slots_to_lock:
        return {}
    accounts, slots = zip(*slots_to_lock, strict=True)
    rows = _LOCK_SLOTS.run(connection, {"accounts": list(accounts), "slots": list(slots)})
    return {(row.coin_account_id, row.slot): row.amount for row in rows}


def _decide_statuses(
    transfers: Sequence[Transfer],
    posted: PostedTransfers,
    spendable: dict[int, int],
    credited_amounts: dict[int, int],
) -> tuple[list[TransferStatus], list[Transfer]]:
    """Return the status of each transfer, and the transfers to be stored.

    `spendable` has the coins that each actor can spend, `credited_amounts` the coins in each
    credited slot. The function updates both, so that a later transfer can spend the coins of an
    earlier transfer.
    """
    statuses = []
    content_by_key = {key: transfer.content for key, transfer in posted.items()}
    accepted = []
    for transfer in transfers:
        if transfer.key in content_by_key:
            is_retry = content_by_key[transfer.key] == transfer.compared_fields
            statuses.append(TransferStatus.REPLAYED if is_retry else TransferStatus.CONFLICT)
        elif not transfer.debit.external and spendable[transfer.actor_id] < transfer.amount:
            statuses.append(TransferStatus.INSUFFICIENT_COINS)
        elif _is_over_limit(transfer, spendable, credited_amounts):
            statuses.append(TransferStatus.BALANCE_LIMIT)
        else:
            if not transfer.debit.external:
                spendable[transfer.actor_id] -= transfer.amount
            if not transfer.credit.external:
                credited_amounts[transfer.credit.id] += transfer.amount
            if transfer.credit.id in spendable:
                spendable[transfer.credit.id] += transfer.amount
            content_by_key[transfer.key] = transfer.compared_fields
            statuses.append(TransferStatus.DONE)
            accepted.append(transfer)
    return statuses, accepted


def _is_over_limit(
    transfer: Transfer, spendable: dict[int, int], credited_amounts: dict[int, int]
) -> bool:
    """Return whether the transfer would raise a slot's amount above MAX_SLOT_COINS."""
    if transfer.credit.external:
        return False
    account = transfer.credit.id
    # The credit goes to the credit slot, or to slot 0 if all coins of the account move there.
    return (
        max(credited_amounts[account], spendable.get(account, 0)) + transfer.amount > MAX_SLOT_COINS
    )


def _balance_deltas(
    accepted: Sequence[Transfer],
    insufficient_accounts: set[int],
    amounts: dict[tuple[int, int], int],
    credit_slot: int,
) -> Counter[tuple[int, int]]:
    """Return the changes of the slots' amounts by (account, slot)."""
    deltas: Counter[tuple[int, int]] = Counter()
    # If an account spends more than the amount of its slot 0, all its coins move to slot 0.
    consolidated_accounts = insufficient_accounts & {transfer.debit.id for transfer in accepted}
    for account in consolidated_accounts:
        for slot in SLOTS[1:]:
            capacity = MAX_SLOT_COINS - amounts[account, 0] - deltas[account, 0]
            moved_coins = min(amounts.get((account, slot), 0), capacity)
            deltas[account, slot] -= moved_coins
            deltas[account, 0] += moved_coins
    for transfer in accepted:
        debit, credit = transfer.debit, transfer.credit
        if not debit.external:
            deltas[debit.id, 0] -= transfer.amount
        if not credit.external:
            deltas[credit.id, 0 if credit.id in consolidated_accounts else credit_slot] += (
                transfer.amount
            )
    return deltas


def write_transfers(
    connection: Connection,
    accepted: Sequence[Transfer],
    deltas: Mapping[tuple[int, int], int],
    *,
    writes_events: bool,
) -> dict[TransferKey, int]:
    """Update the slots; insert the transfers, gifts and events; return the transfers' ids."""
    changes = [(*slot, delta) for slot, delta in deltas.items() if delta]
    gifts = [transfer.gift for transfer in accepted]
    rows = WRITE_TRANSFERS.run(
        connection,
        {
            "accounts": [account for account, _, _ in changes],
            "slots": [slot for _, slot, _ in changes],
            "deltas": [delta for _, _, delta in changes],
            "kinds": [int(transfer.kind) for transfer in accepted],
            "debits": [transfer.debit.id for transfer in accepted],
            "credits": [transfer.credit.id for transfer in accepted],
            "amounts": [transfer.amount for transfer in accepted],
            "actors": [transfer.actor_id for transfer in accepted],
            "request_ids": [str(transfer.request_id) for transfer in accepted],
            "reverses": [transfer.reverses_id for transfer in accepted],
            "hosts": [gift and gift.host_id for gift in gifts],
            "rooms": [gift and gift.room_id for gift in gifts],
            "descriptions": [gift and gift.description for gift in gifts],
            "writes_events": writes_events,
        },
    )
    ids = {(row.actor_id, row.request_id): row.id for row in rows}
    return {transfer.key: ids[transfer.key] for transfer in accepted}


def _settle_orders(
    connection: Connection, accepted: Sequence[Transfer], ids: Mapping[TransferKey, int | None]
) -> None:
    """Settle the payment orders of transfers.

    Raises LookupError if a payment order does not exist or is paid by another transfer.
    """
    paid_orders = [
        (*transfer.payment, ids[transfer.key]) for transfer in accepted if transfer.payment
    ]
    if not paid_orders:
        return
    columns = ("providers", "order_ids", "payment_ids", "paid_at", "transfer_ids")
    values = map(list, zip(*paid_orders, strict=True))
    settled = connection.execute(_SETTLE_ORDERS, dict(zip(columns, values, strict=True)))
    if settled.rowcount != len(paid_orders):
        raise LookupError(
            f"{len(paid_orders) - settled.rowcount} payment orders are unknown or already paid"
        )
