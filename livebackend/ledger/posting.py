"""Posting: the one function that moves coins."""

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from livebackend.database.prepared_statements import Prepared
from livebackend.ledger.transfers import Outcome, Status, Transfer
from livebackend.models import CREDIT_SLOTS, SLOT_COINS_MAX

# The tests replace the public statements and steps of this module with wrong ones, and check that a
# constraint or the audit detects each error.
SLOTS = range(1 + CREDIT_SLOTS)

# Nothing of such a transfer is stored.
_REFUSED = {Status.NO_COINS, Status.BALANCE_LIMIT}

LOCK_ACTORS = Prepared(
    text(
        """
    SELECT coin_account_id, amount FROM coin_slots
    WHERE slot = 0 AND coin_account_id = ANY(CAST(:actors AS bigint[]))
    ORDER BY coin_account_id FOR NO KEY UPDATE
    """
    )
)
_KNOWN = Prepared(
    text(
        """
    SELECT actor_id, request_id, id,
        kind, debit_id, credit_id, amount, gifts.description, reverses_id
    FROM unnest(CAST(:actors AS bigint[]), CAST(:request_ids AS uuid[])) AS asked (actor, request)
    JOIN transfers ON actor_id = asked.actor AND request_id = asked.request
    LEFT JOIN gifts ON transfer_id = id
    UNION ALL
    SELECT actor, request, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM unnest(CAST(:actors AS bigint[]), CAST(:request_ids AS uuid[])) AS asked (actor, request)
    JOIN payment_orders ON payment_orders.request_id = asked.request
    """
    )
)
INSERT_SLOTS = Prepared(
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
_LOCK_SLOTS = Prepared(
    text(
        """
    SELECT coin_slots.coin_account_id, coin_slots.slot, amount
    FROM unnest(CAST(:accounts AS bigint[]), CAST(:slots AS smallint[])) AS wanted (account, slot)
    JOIN coin_slots ON coin_account_id = wanted.account AND coin_slots.slot = wanted.slot
    ORDER BY coin_slots.coin_account_id, coin_slots.slot
    FOR NO KEY UPDATE OF coin_slots
    """
    )
)
_MOVE = Prepared(
    text(
        """
    UPDATE coin_slots SET amount = amount + delta
    FROM unnest(CAST(:accounts AS bigint[]), CAST(:slots AS smallint[]), CAST(:deltas AS bigint[]))
        AS change (account, slot, delta)
    WHERE coin_account_id = change.account AND coin_slots.slot = change.slot
    """
    )
)
INSERT_TRANSFERS = Prepared(
    text(
        """
    INSERT INTO transfers
        (kind, debit_id, credit_id, amount, actor_id, request_id, reverses_id)
    SELECT * FROM unnest(
        CAST(:kinds AS smallint[]), CAST(:debits AS bigint[]), CAST(:credits AS bigint[]),
        CAST(:amounts AS bigint[]), CAST(:actors AS bigint[]), CAST(:request_ids AS uuid[]),
        CAST(:reverses AS bigint[]))
    RETURNING actor_id, request_id, id
    """
    )
)
_RECORD_GIFTS = Prepared(
    text(
        """
    INSERT INTO gifts (transfer_id, host_id, room_id, description)
    SELECT * FROM unnest(
        CAST(:transfer_ids AS bigint[]), CAST(:hosts AS bigint[]), CAST(:rooms AS bigint[]),
        CAST(:descriptions AS text[]))
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


def post(connection: Connection, transfers: Sequence[Transfer], slot: int) -> list[Outcome]:
    """Moves coins, as if one transfer after the other; the outcomes in the same order.

    `slot` is the writer's number: writers with different ones do not wait for each other at a
    credited account. The caller commits, and tells nobody an outcome before. READ COMMITTED.

    Everybody locks in this order, or writers deadlock: first slot 0 of all actors by account, then
    in one pass by (account, slot) all else. Slots that are missing are inserted in between, in the
    same order; an insert waits for whoever has inserted or written the same row, never for one who
    only locked it: whoever writes has all his locks.

    Raises LookupError for an actor who has no slot 0, and an order that is not pending.
    """
    actors = sorted({transfer.actor for transfer in transfers})
    if not actors:
        return []
    locked = LOCK_ACTORS.run(connection, {"actors": actors})
    spendable: dict[int, int] = {row.coin_account_id: row.amount for row in locked}
    if len(spendable) < len(actors):
        raise LookupError("an actor has no coin account of his own")
    # A new statement, so that it sees what the lock's former holder committed.
    known = find_posted(connection, transfers)
    fresh = [transfer for transfer in transfers if transfer.key not in known]
    credit_slot = 1 + slot % CREDIT_SLOTS
    short = _short(fresh, spendable)
    amounts = lock_slots(connection, fresh, short, credit_slot)
    for account in short:
        spendable[account] = sum(amounts.get((account, each), 0) for each in SLOTS)

    held = {account: amount for (account, slot), amount in amounts.items() if slot == credit_slot}
    statuses, done = _decide(transfers, known, spendable, held)
    if done:
        _move(connection, done, short, amounts, credit_slot)
        known |= insert_transfers(connection, done)
    # Without coins there is no transfer, though a later one of the batch may have used the id.
    return [
        Outcome(status, None if status in _REFUSED else known[transfer.key].id)
        for status, transfer in zip(statuses, transfers, strict=True)
    ]


class PostedTransfer(NamedTuple):
    """The id and content of a transfer that was posted before.

    A payment order uses up its request id, too: it has no transfer id, and a content that equals
    no transfer's.
    """

    id: int | None
    content: tuple[object, ...]


PostedTransfers = dict[tuple[int, uuid.UUID], PostedTransfer]


def find_posted(connection: Connection, transfers: Sequence[Transfer]) -> PostedTransfers:
    """Return those of the transfers whose request ids are used already."""
    asked = {
        "actors": [transfer.actor for transfer in transfers],
        "request_ids": [str(transfer.request_id) for transfer in transfers],
    }
    return {
        (row.actor_id, row.request_id): PostedTransfer(row.id, tuple(row[3:]))
        for row in _KNOWN.run(connection, asked)
    }


def _short(transfers: Sequence[Transfer], spendable: dict[int, int]) -> set[int]:
    """Who may need more in this batch than lies in his slot 0."""
    wanted: Counter[int] = Counter()
    for transfer in transfers:
        if not transfer.debit.external:
            wanted[transfer.actor] += transfer.amount
    return {account for account, coins in wanted.items() if coins > spendable[account]}


def lock_slots(
    connection: Connection, transfers: Sequence[Transfer], short: set[int], credit_slot: int
) -> dict[tuple[int, int], int]:
    """Lock the slots of the `short` accounts, and all credited slots; return their amounts."""
    credited = sorted(
        {transfer.credit.id for transfer in transfers if not transfer.credit.external}
    )
    if credited:
        INSERT_SLOTS.run(connection, {"accounts": credited, "slots": [credit_slot] * len(credited)})
    wanted = {(account, credit_slot) for account in credited}
    wanted |= {(account, each) for account in short for each in SLOTS}
    if not wanted:
        return {}
    accounts, slots = zip(*wanted, strict=True)
    rows = _LOCK_SLOTS.run(connection, {"accounts": list(accounts), "slots": list(slots)})
    return {(row.coin_account_id, row.slot): row.amount for row in rows}


def _decide(
    transfers: Sequence[Transfer],
    known: PostedTransfers,
    spendable: dict[int, int],
    held: dict[int, int],
) -> tuple[list[Status], list[Transfer]]:
    """Decide one transfer after the other; return all statuses, and what to book.

    `spendable` has the coins that each actor can spend, `held` the coins in each credited slot.
    What an earlier transfer of the batch credits to an account, a later one can spend.
    """
    statuses = []
    contents = {key: transfer.content for key, transfer in known.items()}
    done = []
    for transfer in transfers:
        if transfer.key in contents:
            same = contents[transfer.key] == transfer.content
            statuses.append(Status.REPLAYED if same else Status.CONFLICT)
        elif not transfer.debit.external and spendable[transfer.actor] < transfer.amount:
            statuses.append(Status.NO_COINS)
        elif _is_over_limit(transfer, spendable, held):
            statuses.append(Status.BALANCE_LIMIT)
        else:
            if not transfer.debit.external:
                spendable[transfer.actor] -= transfer.amount
            if not transfer.credit.external:
                held[transfer.credit.id] += transfer.amount
            if transfer.credit.id in spendable:
                spendable[transfer.credit.id] += transfer.amount
            contents[transfer.key] = transfer.content
            statuses.append(Status.DONE)
            done.append(transfer)
    return statuses, done


def _is_over_limit(transfer: Transfer, spendable: dict[int, int], held: dict[int, int]) -> bool:
    """Return whether a credit would exceed what the slot that it goes to can hold."""
    if transfer.credit.external:
        return False
    account = transfer.credit.id
    # The credits of an account that is consolidated go to slot 0.
    return max(held[account], spendable.get(account, 0)) + transfer.amount > SLOT_COINS_MAX


def _move(
    connection: Connection,
    done: Sequence[Transfer],
    short: set[int],
    amounts: dict[tuple[int, int], int],
    credit_slot: int,
) -> None:
    """Writes what the transfers do to the slots, each slot once."""
    deltas: Counter[tuple[int, int]] = Counter()
    # An account that spends more than its slot 0 holds has its slots consolidated there first.
    gathered = short & {transfer.debit.id for transfer in done}
    for (account, slot), amount in amounts.items():
        if account in gathered and slot > 0:
            room = SLOT_COINS_MAX - amounts[account, 0] - deltas[account, 0]
            moved = min(amount, room)
            deltas[account, slot] -= moved
            deltas[account, 0] += moved
    for transfer in done:
        debit, credit = transfer.debit, transfer.credit
        if not debit.external:
            deltas[debit.id, 0] -= transfer.amount
        if not credit.external:
            deltas[credit.id, 0 if credit.id in gathered else credit_slot] += transfer.amount
    moves = [(account, slot, delta) for (account, slot), delta in deltas.items() if delta]
    if moves:  # what goes round in a ring moves nothing
        accounts, slots, changes = map(list, zip(*moves, strict=True))
        _MOVE.run(connection, {"accounts": accounts, "slots": slots, "deltas": changes})


def insert_transfers(connection: Connection, done: Sequence[Transfer]) -> PostedTransfers:
    """Insert the transfers and their gifts, and settle their payment orders."""
    rows = INSERT_TRANSFERS.run(
        connection,
        {
            "kinds": [int(transfer.kind) for transfer in done],
            "debits": [transfer.debit.id for transfer in done],
            "credits": [transfer.credit.id for transfer in done],
            "amounts": [transfer.amount for transfer in done],
            "actors": [transfer.actor for transfer in done],
            "request_ids": [str(transfer.request_id) for transfer in done],
            "reverses": [transfer.reverses for transfer in done],
        },
    )
    ids = {(row.actor_id, row.request_id): row.id for row in rows}
    gifts = [(ids[transfer.key], transfer.gift) for transfer in done if transfer.gift]
    if gifts:
        _RECORD_GIFTS.run(
            connection,
            {
                "transfer_ids": [transfer_id for transfer_id, _ in gifts],
                "hosts": [gift.host_id for _, gift in gifts],
                "rooms": [gift.room_id for _, gift in gifts],
                "descriptions": [gift.description for _, gift in gifts],
            },
        )
    paid = [(*transfer.payment, ids[transfer.key]) for transfer in done if transfer.payment]
    if paid:
        columns = ("providers", "order_ids", "payment_ids", "paid_at", "transfer_ids")
        values = map(list, zip(*paid, strict=True))
        settled = connection.execute(_SETTLE_ORDERS, dict(zip(columns, values, strict=True)))
        if settled.rowcount != len(paid):
            raise LookupError("a payment order is unknown, or was paid by another transfer")
    return {transfer.key: PostedTransfer(ids[transfer.key], transfer.content) for transfer in done}
