"""Posting: effects, request ids, payment orders, constraints, concurrency and lock order."""

import random
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from livebackend.database.engine import Database
from livebackend.database.prepared_statements import PreparedStatement
from livebackend.ledger import history
from livebackend.ledger import posting as ledger
from livebackend.ledger.coin_accounts import external_account
from livebackend.ledger.posting import post
from livebackend.ledger.transfers import (
    CoinAccount,
    Gift,
    Payment,
    Transfer,
    TransferKind,
    TransferOutcome,
    TransferStatus,
    derive_request_id,
)
from tests.support.api import run_concurrently
from tests.support.database_state import DatabaseState
from tests.support.ledger_helpers import LedgerAccounts, Slots, audit_errors, balance, statuses_of
from tests.support.statements import before_each_statement

DONE, REPLAYED = TransferStatus.DONE, TransferStatus.REPLAYED
CONFLICT, INSUFFICIENT_COINS = TransferStatus.CONFLICT, TransferStatus.INSUFFICIENT_COINS


@pytest.fixture
def books(database: Database) -> Iterator[LedgerAccounts]:
    """A ledger that the audit checks after the test."""
    books = LedgerAccounts(database)
    yield books
    assert books.audit_errors() == []


# Effects of transfers.


def test_gift_moves_coins_and_is_stored(
    books: LedgerAccounts, database_state: DatabaseState
) -> None:
    ann, ben = books.open({0: 100}), books.open()
    gift = replace(books.gift(ann, ben, 30), gift=Gift(7, 8, "a rose, 'for' \\ {you}"))
    (outcome,) = books.post(gift, slot=4)
    assert outcome.status is DONE
    assert (books.slots(ann), books.slots(ben)) == ({0: 70}, {0: 0, 5: 30})
    (row,) = [row for row in database_state.rows("transfers") if row["kind"] == TransferKind.GIFT]
    columns = row["id"], row["debit_id"], row["credit_id"], row["amount"], row["actor_id"]
    assert columns == (outcome.transfer_id, ann.id, ben.id, 30, ann.id)
    (stored_gift,) = database_state.rows("gifts")
    assert stored_gift == {
        "transfer_id": outcome.transfer_id,
        "host_id": 7,
        "room_id": 8,
        "description": "a rose, 'for' \\ {you}",
    }


@pytest.mark.parametrize("slot", [0, 1, 15, 16, 31, 1000])
def test_credit_goes_to_the_slot_of_the_writer(slot: int, books: LedgerAccounts) -> None:
    ann = books.open()
    assert books.statuses(books.refill(ann, 10), slot=slot) == [DONE]
    assert books.slots(ann) == {0: 0, 1 + slot % 16: 10}


def test_provider_account_has_no_slots_and_no_limit(books: LedgerAccounts) -> None:
    ann = books.open()
    assert books.statuses(*[books.refill(ann, 2**56) for _ in range(4)]) == [DONE] * 4
    assert books.coins(ann) == [2**58]
    assert books.slots(books.provider_account) == {}


def test_concurrent_calls_create_one_provider_account(
    books: LedgerAccounts, database_state: DatabaseState
) -> None:
    def external_id() -> int:
        return books.database.run(lambda connection: external_account(connection, "other"))

    assert len(set(run_concurrently(*[external_id] * 8))) == 1
    providers = [row["provider"] for row in database_state.rows("coin_accounts")]
    assert sorted(filter(None, providers)) == ["direct", "other"]


def test_empty_batch_changes_nothing(books: LedgerAccounts, database_state: DatabaseState) -> None:
    with database_state.assert_unchanged():
        assert books.post() == []


def test_reversal_refers_to_the_reversed_transfer(
    books: LedgerAccounts, database_state: DatabaseState
) -> None:
    ann, ben = books.open({0: 100}), books.open()
    (gift,) = books.post(books.gift(ann, ben, 30))
    reversal = replace(
        books.gift(ben, ann, 30, "reversal"),
        kind=TransferKind.REVERSAL,
        gift=None,
        reverses_id=gift.transfer_id,
    )
    assert books.statuses(reversal) == [DONE]
    assert books.coins(ann, ben) == [100, 0]
    assert gift.transfer_id
    assert [row["reverses_id"] for row in database_state.rows("transfers")][-1] == gift.transfer_id
    assert books.statuses(reversal) == [REPLAYED]
    assert books.statuses(replace(reversal, reverses_id=gift.transfer_id + 1)) == [CONFLICT]


def test_spending_more_than_slot_0_consolidates_all_slots_there(books: LedgerAccounts) -> None:
    ann, ben = books.open({0: 5, 1: 10, 7: 20, 16: 30}), books.open()
    assert books.statuses(books.gift(ann, ben, 5)) == [DONE]
    assert books.slots(ann) == {0: 0, 1: 10, 7: 20, 16: 30}
    assert books.statuses(books.gift(ann, ben, 45)) == [DONE]
    assert books.slots(ann) == {0: 15, 1: 0, 7: 0, 16: 0}
    assert books.coins(ann, ben) == [15, 50]


def test_coins_of_an_earlier_transfer_can_be_spent_in_the_same_batch(books: LedgerAccounts) -> None:
    ann, ben, cat = books.open({3: 5}), books.open(), books.open()
    batch = [
        books.gift(ben, cat, 12),  # rejected: no coins yet
        books.gift(ann, ben, 5),
        books.refill(ben, 10),
        books.gift(ben, cat, 12),
        books.gift(cat, ann, 12),
        books.gift(ben, cat, 4),  # rejected: one coin is missing
        books.gift(ben, cat, 3),
    ]
    expected = [INSUFFICIENT_COINS, DONE, DONE, DONE, DONE, INSUFFICIENT_COINS, DONE]
    assert books.statuses(*batch) == expected
    assert books.coins(ann, ben, cat) == [12, 0, 3]


def test_transfers_that_cancel_out_are_stored(
    books: LedgerAccounts, database_state: DatabaseState
) -> None:
    ann, ben = books.open({0: 1, 1: 9}), books.open({0: 1, 1: 9})
    assert books.statuses(books.gift(ann, ben, 10), books.gift(ben, ann, 10)) == [DONE, DONE]
    assert books.coins(ann, ben) == [10, 10]
    assert len(database_state.rows("gifts")) == 2


# Request ids.


def test_retry_moves_no_coins_and_returns_the_first_transfer_id(
    books: LedgerAccounts, database_state: DatabaseState
) -> None:
    ann, ben = books.open({0: 100}), books.open()
    gift = books.gift(ann, ben, 30)
    (first,) = books.post(gift)
    with database_state.assert_unchanged():
        assert books.post(gift, gift) == [TransferOutcome(REPLAYED, first.transfer_id)] * 2


def test_duplicate_requests_in_a_batch_move_coins_once(books: LedgerAccounts) -> None:
    ann, ben = books.open({0: 100}), books.open()
    gift = books.gift(ann, ben, 60)
    outcomes = books.post(gift, gift, replace(gift, amount=1))
    assert statuses_of(outcomes) == [DONE, REPLAYED, CONFLICT]
    assert len({outcome.transfer_id for outcome in outcomes}) == 1
    assert books.coins(ann, ben) == [40, 60]


@pytest.mark.parametrize("in_one_batch", [True, False])
@pytest.mark.parametrize(
    "changed", ["amount", "credit", "debit", "kind", "description", "no gift", "reverses"]
)
def test_used_request_id_with_other_content_moves_no_coins(
    changed: str, books: LedgerAccounts, database_state: DatabaseState, *, in_one_batch: bool
) -> None:
    ann, ben, cat = books.open({0: 100}), books.open(), books.open()
    gift = books.gift(ann, ben, 30)
    other = {
        "amount": replace(gift, amount=31),
        "credit": replace(gift, credit=cat),
        "debit": replace(gift, debit=books.provider_account),
        "kind": replace(gift, kind=TransferKind.REFILL),
        "description": replace(gift, gift=Gift(ben.id + 1000, None, "a Rose")),
        "no gift": replace(gift, gift=None),
        "reverses": replace(gift, reverses_id=1),
    }[changed]
    if in_one_batch:
        first, second = books.post(gift, other)
    else:
        (first,) = books.post(gift)
        with database_state.assert_unchanged():
            (second,) = books.post(other)
    assert (first.status, second) == (DONE, TransferOutcome(CONFLICT, first.transfer_id))
    assert books.coins(ann, ben, cat) == [70, 30, 0]


def test_retry_with_another_room_id_is_the_same_request(books: LedgerAccounts) -> None:
    # A retry after the room was closed has another room id.
    ann, ben = books.open({0: 100}), books.open()
    gift = books.gift(ann, ben, 30)
    books.post(gift)
    assert books.statuses(replace(gift, gift=Gift(ben.id + 1000, 9, "a rose"))) == [REPLAYED]


def test_two_actors_can_use_the_same_request_id(books: LedgerAccounts) -> None:
    ann, ben = books.open({0: 100}), books.open({0: 100})
    gift = books.gift(ann, ben, 30)
    other = replace(books.gift(ben, ann, 20), request_id=gift.request_id)
    assert books.statuses(gift, other) == [DONE, DONE]
    assert books.coins(ann, ben) == [90, 110]


def test_request_keys_of_different_sources_and_actors_differ() -> None:
    keys = {derive_request_id(source, actor, "1") for source in ("a", "b") for actor in (1, 2, 11)}
    assert len(keys) == 6
    assert derive_request_id("a", 1, "x") == derive_request_id("a", 1, "x")


def test_request_id_can_be_used_again_after_insufficient_balance(
    books: LedgerAccounts, database_state: DatabaseState
) -> None:
    ann, ben = books.open({0: 10, 3: 10}), books.open({1: 0})
    gift = books.gift(ann, ben, 21, "g")
    before = database_state.rows("transfers"), books.slots(ann)
    assert books.post(gift) == [TransferOutcome(INSUFFICIENT_COINS)]
    assert (database_state.rows("transfers"), books.slots(ann)) == before
    assert database_state.rows("gifts") == []
    assert books.statuses(replace(gift, amount=20)) == [DONE]


def test_request_id_can_be_used_again_in_the_same_batch_after_insufficient_balance(
    books: LedgerAccounts,
) -> None:
    ann, ben = books.open({0: 20}), books.open()
    gift = books.gift(ann, ben, 21, "g")
    rejected, done = books.post(gift, replace(gift, amount=20))
    assert rejected == TransferOutcome(INSUFFICIENT_COINS)
    assert done.status is DONE


# Payment orders.


def test_refill_settles_its_payment_order(
    books: LedgerAccounts, database_state: DatabaseState
) -> None:
    ann, ben = books.open(), books.open()
    orders = [books.order_refill(ann, 10, "1"), books.order_refill(ben, 10, "2")]
    books.order_refill(ann, 10, "3")
    outcomes = books.post(*orders, books.refill(ann, 5))
    assert statuses_of(outcomes) == [DONE] * 3
    rows = {row["order_id"]: row for row in database_state.rows("payment_orders")}
    assert [rows[n]["state"] for n in "123"] == ["paid", "paid", "pending"]
    assert [rows[n]["transfer_id"] for n in "12"] == [
        outcome.transfer_id for outcome in outcomes[:2]
    ]
    assert books.statuses(*orders) == [REPLAYED] * 2
    assert books.coins(ann, ben) == [15, 10]


@pytest.mark.parametrize("order_id", ["1", "unknown"])
def test_refill_for_an_unknown_or_paid_order_moves_no_coins(
    order_id: str, books: LedgerAccounts, database_state: DatabaseState
) -> None:
    ann, ben = books.open(), books.open()
    books.post(books.order_refill(ann, 10, "1"))
    refill = replace(
        books.refill(ben, 10), payment=Payment("direct", order_id, f"payment {order_id}")
    )
    with database_state.assert_unchanged(), pytest.raises(LookupError):
        books.post(refill)


# Invalid transfers.


def test_actor_cannot_spend_coins_of_another_account(books: LedgerAccounts) -> None:
    ann, ben = books.open(), books.open()
    with pytest.raises(ValueError, match="debit must be external or the actor's account"):
        replace(books.gift(ann, ben, 1), actor=ben.id)


@pytest.mark.parametrize("amount", [0, -1])
def test_amount_of_a_transfer_must_be_positive(amount: int, books: LedgerAccounts) -> None:
    ann, ben = books.open(), books.open()
    with pytest.raises(ValueError, match="amount must be positive"):
        books.gift(ann, ben, amount)


def test_debit_and_credit_of_a_transfer_must_differ(books: LedgerAccounts) -> None:
    ann = books.open()
    with pytest.raises(ValueError, match="debit and credit are the same account"):
        books.gift(ann, ann, 1)


def test_actor_without_slot_0_is_rejected(
    books: LedgerAccounts, database_state: DatabaseState
) -> None:
    # The lock on slot 0 protects the lookup of the actor's request ids.
    ann = books.open()
    refill = books.refill(ann, 10)
    with database_state.assert_unchanged():
        for actor in (books.provider_account.id, 2**40):
            with pytest.raises(LookupError):
                books.post(books.refill(ann, 5), replace(refill, actor=actor))
        unknown = CoinAccount(2**40)
        with pytest.raises(LookupError):
            books.post(books.gift(unknown, ann, 5))


def test_gift_to_an_unknown_account_is_rejected(
    books: LedgerAccounts, database_state: DatabaseState
) -> None:
    ann = books.open({0: 10})
    with database_state.assert_unchanged(), pytest.raises(IntegrityError):
        books.post(books.gift(ann, CoinAccount(2**40), 5))


@pytest.mark.parametrize(
    ("table", "columns", "constraint"),
    [
        ("transfers", {"amount": "0"}, "ck_transfers_amount"),
        ("transfers", {"amount": "-1"}, "ck_transfers_amount"),
        ("transfers", {"amount": "9223372036854775808"}, "out of range"),
        ("transfers", {"credit_id": ":bank"}, "ck_transfers_distinct_accounts"),
        ("transfers", {"kind": "3"}, "ck_transfers_kind"),
        ("transfers", {"kind": "9"}, "ck_transfers_reverses"),
        ("transfers", {"reverses_id": ":existing"}, "ck_transfers_reverses"),
        ("transfers", {"credit_id": "0"}, "fk_transfers_credit_id"),
        ("transfers", {"debit_id": "0"}, "fk_transfers_debit_id"),
        ("transfers", {"actor_id": "0"}, "fk_transfers_actor_id"),
        ("transfers", {"actor_id": "NULL"}, "actor_id"),
        ("transfers", {"request_id": "NULL"}, "request_id"),
        (
            "transfers",
            {"request_id": "(SELECT request_id FROM transfers WHERE id = :existing)"},
            "uq_transfers_actor_id_request_id",
        ),
        ("coin_slots", {"coin_account_id": "0"}, "fk_coin_slots_coin_account_id"),
        ("coin_slots", {"amount": "-1"}, "ck_coin_slots_amount"),
        ("coin_slots", {"amount": "9223372036854775808"}, "out of range"),
        ("coin_slots", {"amount": "NULL"}, "amount"),
        ("coin_slots", {"slot": "-1"}, "ck_coin_slots_slot"),
        ("coin_slots", {"slot": "17"}, "ck_coin_slots_slot"),
        ("coin_slots", {"slot": "0"}, "pk_coin_slots"),
    ],
)
def test_constraints_reject_invalid_rows(
    table: str,
    columns: dict[str, str],
    constraint: str,
    books: LedgerAccounts,
    database_state: DatabaseState,
) -> None:
    ann = books.open({0: 10})
    (existing,) = database_state.rows("transfers")
    valid = {
        "transfers": {
            "kind": "2",
            "debit_id": ":bank",
            "credit_id": ":ann",
            "amount": "1",
            "actor_id": ":ann",
            "request_id": "gen_random_uuid()",
        },
        "coin_slots": {"coin_account_id": ":ann", "slot": "1", "amount": "0"},
    }[table]
    ids = {"bank": books.provider_account.id, "ann": ann.id, "existing": existing["id"]}
    with books.database.engine.connect() as connection:
        # The row is valid without the changed columns. Rolled back.
        connection.execute(_insert(table, valid), ids)
    with (
        database_state.assert_unchanged(),
        pytest.raises(DBAPIError, match=constraint),
        books.database.engine.begin() as connection,
    ):
        connection.execute(_insert(table, valid | columns), ids)


def _insert(table: str, columns: dict[str, str]) -> TextClause:
    return text(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"
    )


# Random batches.

_account_indexes = st.integers(0, 2)
_transfers = st.tuples(
    st.sampled_from(["gift", "gift", "gift", "refill"]),
    _account_indexes,
    _account_indexes,
    st.integers(1, 30),
    # Few keys, so that retries and conflicts are frequent.
    st.sampled_from([None, None, None, "a", "b"]),
).filter(lambda transfer: transfer[1] != transfer[2])
_slots = st.dictionaries(st.sampled_from([0, 0, 1, 2, 9, 16]), st.integers(0, 30))


class Model:
    """A simple model of the ledger, without slots and batches."""

    def __init__(self, coins: Mapping[int, int]) -> None:
        self.coins = dict(coins)
        self.done: dict[tuple[int, uuid.UUID], Transfer] = {}

    def post(self, transfer: Transfer) -> TransferStatus:
        earlier = self.done.get(transfer.key)
        if earlier:
            return REPLAYED if earlier.compared_fields == transfer.compared_fields else CONFLICT
        if not transfer.debit.external:
            if self.coins[transfer.debit.id] < transfer.amount:
                return INSUFFICIENT_COINS
            self.coins[transfer.debit.id] -= transfer.amount
        self.coins[transfer.credit.id] += transfer.amount
        self.done[transfer.key] = transfer
        return DONE


def _state(
    connection: Connection, accounts: Sequence[CoinAccount]
) -> tuple[list[int], list[tuple[object, ...]]]:
    """Return the balances, and the transfers in the order of their ids."""
    rows = connection.execute(
        text(
            "SELECT actor_id, request_id, kind, debit_id, credit_id, transfers.amount, description"
            " FROM transfers LEFT JOIN gifts ON transfer_id = id ORDER BY id"
        )
    )
    return [balance(connection, account) for account in accounts], [tuple(row) for row in rows]


@pytest.mark.processes
@given(
    initial=st.tuples(_slots, _slots, _slots),
    batches=st.lists(
        st.tuples(st.lists(_transfers, min_size=1, max_size=8), st.integers(0, 20)),
        min_size=1,
        max_size=2,
    ),
)
# Each account needs all its slots, and passes on the coins that it receives.
@example(
    initial=({0: 1, 2: 9}, {0: 1, 1: 9}, {9: 10}),
    batches=[([("gift", n, (n + 1) % 3, 10, None) for n in (0, 1, 2)], 0)],
)
@settings(max_examples=300)
def test_batch_has_the_same_result_as_single_transfers_and_the_model(
    database: Database,
    empty_accounts: tuple[LedgerAccounts, list[CoinAccount]],
    initial: Any,
    batches: Any,
) -> None:
    books, accounts = empty_accounts
    transfer_batches = [
        ([_transfer(books, accounts, *arguments) for arguments in batch], slot)
        for batch, slot in batches
    ]
    transfers = [transfer for batch, _ in transfer_batches for transfer in batch]
    model = Model(
        {account.id: sum(coins.values()) for account, coins in zip(accounts, initial, strict=True)}
    )
    with database.engine.connect() as connection:
        books.set_up_balances(connection, dict(zip(accounts, initial, strict=True)))
        savepoint = connection.begin_nested()
        single_outcomes = [
            post(connection, [transfer], slot)[0]
            for batch, slot in transfer_batches
            for transfer in batch
        ]
        expected = _state(connection, accounts)
        assert audit_errors(connection) == []
        savepoint.rollback()
        outcomes = [
            outcome for batch, slot in transfer_batches for outcome in post(connection, batch, slot)
        ]
        assert audit_errors(connection) == []
        assert _state(connection, accounts) == expected
        ids = _ids(connection)
    model_statuses = [model.post(transfer) for transfer in transfers]
    assert statuses_of(outcomes) == statuses_of(single_outcomes) == model_statuses
    assert expected[0] == list(model.coins.values())
    # Each outcome has the id of the transfer with its request id.
    for transfer, outcome in zip(transfers, outcomes, strict=True):
        has_id = outcome.status is not INSUFFICIENT_COINS
        assert outcome.transfer_id == (ids[transfer.key] if has_id else None)


def _transfer(
    books: LedgerAccounts,
    accounts: Sequence[CoinAccount],
    kind: str,
    actor: int,
    recipient: int,
    coins: int,
    key: str | None,
) -> Transfer:
    if kind == "gift":
        return books.gift(accounts[actor], accounts[recipient], coins, key)
    # The ledger allows a refill of another user's account.
    return replace(books.refill(accounts[actor], coins, key), credit=accounts[recipient])


def _ids(connection: Connection) -> dict[tuple[int, uuid.UUID], int]:
    rows = connection.execute(text("SELECT actor_id, request_id, id FROM transfers"))
    return {(row.actor_id, row.request_id): row.id for row in rows}


@pytest.fixture
def empty_accounts(books: LedgerAccounts) -> tuple[LedgerAccounts, list[CoinAccount]]:
    """Three accounts; every example rolls back its changes, so they are always empty."""
    return books, [books.open() for _ in range(3)]


# Concurrent writers.


def _post_in_lockstep(
    books: LedgerAccounts, *batches: tuple[Sequence[Transfer], int]
) -> list[list[TransferStatus]]:
    """Post batches concurrently; before each statement, the writers wait for each other.

    A writer that waits for a lock of another one cannot reach the barrier, so the barrier has a
    timeout. A deadlock raises an error.
    """
    barrier = threading.Barrier(len(batches))

    def wait(*_: object) -> None:
        with suppress(threading.BrokenBarrierError):
            barrier.wait(0.1)

    def run(batch: Sequence[Transfer], slot: int) -> list[TransferStatus]:
        with books.database.engine.begin() as connection:
            return statuses_of(post(connection, batch, slot))

    with before_each_statement(wait):
        return run_concurrently(*[partial(run, *batch) for batch in batches])


def _crossed_gifts(
    books: LedgerAccounts, ann: CoinAccount, ben: CoinAccount
) -> list[list[TransferStatus]]:
    """Two gifts in opposite directions; each consolidates slots that the other one credits."""
    return _post_in_lockstep(
        books, ([books.gift(ann, ben, 60)], 0), ([books.gift(ben, ann, 60)], 1)
    )


@pytest.mark.parametrize("slots", [{1: 50, 2: 50}, {0: 1, 2: 99}, {0: 1, 1: 99}, {0: 1, 9: 99}])
def test_opposite_gifts_that_consolidate_slots_do_not_deadlock(
    slots: Slots, books: LedgerAccounts
) -> None:
    ann, ben = books.open(slots), books.open(slots)
    assert _crossed_gifts(books, ann, ben) == [[DONE], [DONE]]
    assert books.coins(ann, ben) == [100, 100]


_LOCK_SLOT = text(
    """
    SELECT 1 FROM coin_slots WHERE coin_account_id = :account AND slot = :slot
    FOR NO KEY UPDATE
    """
)
_LOCK_UNLOCKED = text("SELECT coin_account_id, slot FROM coin_slots FOR NO KEY UPDATE SKIP LOCKED")
_COUNT_WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE :blocker = ANY(pg_blocking_pids(pid))"
)


@pytest.mark.parametrize("position", range(5))
def test_locks_are_acquired_in_order(position: int, books: LedgerAccounts) -> None:
    """A writer that waits for a lock holds all earlier locks and no later ones."""
    ann, ben, cat = books.open({0: 1, 3: 49}), books.open({0: 50, 2: 1}), books.open({2: 1})
    batch = [books.gift(ben, cat, 10), books.gift(ann, ben, 40), books.gift(ann, cat, 1)]
    order = [(ann.id, 0), (ben.id, 0), (ann.id, 3), (ben.id, 2), (cat.id, 2)]
    account, slot = order[position]
    with books.database.engine.connect() as blocker, books.database.engine.connect() as observer:
        blocker.execute(_LOCK_SLOT, {"account": account, "slot": slot})
        process = blocker.execute(text("SELECT pg_backend_pid()")).scalar_one()
        posting = threading.Thread(target=partial(books.post, *batch, slot=1))
        posting.start()
        for _ in range(1000):
            waiting = observer.execute(_COUNT_WAITING, {"blocker": process}).scalar_one()
            observer.rollback()  # within a transaction, the view does not change
            if waiting:
                break
            time.sleep(0.005)
        unlocked = {(row.coin_account_id, row.slot) for row in observer.execute(_LOCK_UNLOCKED)}
        observer.rollback()
        blocker.rollback()
        posting.join(10)
    assert [slot for slot in order if slot not in unlocked] == order[: position + 1]
    assert books.coins(ann, ben, cat) == [9, 81, 12]


def test_three_writers_with_circular_gifts_do_not_deadlock(books: LedgerAccounts) -> None:
    accounts = [books.open({1: 50, 2: 50, 3: 50}) for _ in range(3)]
    batches = [
        ([books.gift(accounts[n], accounts[m], 40) for m in range(3) if m != n], n)
        for n in range(3)
    ]
    assert _post_in_lockstep(books, *batches) == [[DONE] * 2] * 3
    assert books.coins(*accounts) == [150] * 3


def _random_batch(
    books: LedgerAccounts, accounts: Sequence[CoinAccount], rng: random.Random
) -> list[Transfer]:
    """Return gifts, many of which need more than slot 0, some refills, and some retries."""
    batch = []
    # Only two actors per batch, because batches with common actors run one after the other.
    actors = rng.sample(range(len(accounts)), 2)
    for _ in range(rng.randint(1, 8)):
        actor = rng.choice(actors)
        recipient = rng.choice([n for n in range(len(accounts)) if n != actor])
        kind = rng.choice(["gift"] * 5 + ["refill"])
        key = str(rng.randrange(200)) if rng.random() < 0.3 else None
        batch.append(_transfer(books, accounts, kind, actor, recipient, rng.randint(1, 60), key))
    return batch


@pytest.mark.parametrize("seed", range(15))
def test_two_random_batches_in_lockstep_do_not_deadlock(seed: int, books: LedgerAccounts) -> None:
    rng = random.Random(seed)
    accounts = [books.open({0: 10, 1: 20, 2: 20}) for _ in range(3)]
    batches = [(_random_batch(books, accounts, rng), slot) for slot in (0, rng.randrange(2))]
    _post_in_lockstep(books, *batches)


def _post_random_batches(books: LedgerAccounts, slots: Sequence[int], *, batches: int) -> None:
    """Post random batches among ten accounts, with one concurrent writer per slot number."""
    accounts = [books.open({0: 20, 1: 30, 2: 30, 5: 20}) for _ in range(10)]

    def run(seed: int, slot: int) -> None:
        rng = random.Random(seed)
        for _ in range(batches):
            books.post(*_random_batch(books, accounts, rng), slot=slot)

    run_concurrently(*[partial(run, seed, slot) for seed, slot in enumerate(slots)])


@pytest.mark.parametrize("slots", [(0, 1, 2, 3), (0, 0, 0, 0), (0, 0, 1, 1)])
def test_random_batches_of_four_writers_neither_deadlock_nor_lose_coins(
    slots: Sequence[int], books: LedgerAccounts
) -> None:
    _post_random_batches(books, slots, batches=60)


def _post_same_ids(books: LedgerAccounts, *, keys: int) -> list[list[TransferOutcome]]:
    """For each key, post eight gifts concurrently, the last one with another amount."""
    ann, ben = books.open({0: 10, 3: 1000}), books.open()
    outcomes = []
    for key in range(keys):
        gifts = [books.gift(ann, ben, 10, str(key)) for _ in range(7)]
        gifts.append(books.gift(ann, ben, 11, str(key)))
        calls = [partial(books.post, gift, slot=slot) for slot, gift in enumerate(gifts)]
        outcomes.append([outcome for (outcome,) in run_concurrently(*calls)])
    return outcomes


def test_request_id_on_eight_connections_moves_coins_once(
    books: LedgerAccounts, database_state: DatabaseState
) -> None:
    for outcomes in _post_same_ids(books, keys=20):
        assert len({outcome.transfer_id for outcome in outcomes}) == 1
        *same, other = statuses_of(outcomes)
        if other is DONE:
            assert same == [CONFLICT] * 7
        else:
            assert other is CONFLICT
            assert sorted(same, key=str) == [DONE] + [REPLAYED] * 6
    assert len(database_state.rows("gifts")) == 20


def _spend_concurrently(books: LedgerAccounts) -> list[TransferStatus]:
    """Post eight gifts of 40 coins concurrently, from an account with 100 coins."""
    ann, ben = books.open({0: 60, 2: 40}), books.open()
    calls = [partial(books.statuses, books.gift(ann, ben, 40), slot=slot) for slot in range(8)]
    return [status for (status,) in run_concurrently(*calls)]


def test_concurrent_gifts_do_not_spend_a_coin_twice(books: LedgerAccounts) -> None:
    for _ in range(5):
        assert sorted(_spend_concurrently(books), key=str) == [DONE] * 2 + [INSUFFICIENT_COINS] * 6


def test_locked_slot_does_not_block_an_insert_of_the_same_slot(books: LedgerAccounts) -> None:
    # Otherwise inserting missing slots would violate the lock order.
    ann, ben = books.open({0: 10}), books.open({1: 1})
    lock = text("SELECT 1 FROM coin_slots WHERE coin_account_id = :id FOR NO KEY UPDATE")
    inserted = {"accounts": [ben.id], "slots": [1]}
    with books.database.engine.begin() as locker, books.database.engine.begin() as inserter:
        locker.execute(lock, {"id": ben.id})
        inserter.execute(text("SET LOCAL lock_timeout = '100ms'"))
        ledger.INSERT_SLOTS.run(inserter, inserted)
    assert books.slots(ann) == {0: 10}


# Without each safeguard of posting, a constraint, the audit or a test detects the error.


@pytest.fixture
def unchecked_books(database: Database) -> LedgerAccounts:
    """A ledger without an audit after the test."""
    return LedgerAccounts(database)


def _changed(statement: PreparedStatement, old: str, new: str) -> PreparedStatement:
    assert old in statement.text
    with_named_parameters = re.sub(r"%\((\w+)\)s", r":\1", statement.text)
    return PreparedStatement(text(with_named_parameters.replace(old, new)))


def _find_nothing(connection: Connection, transfers: Sequence[Transfer]) -> dict[Any, Any]:
    return {}


def test_without_lookup_of_request_ids_the_unique_constraint_rejects_a_duplicate(
    unchecked_books: LedgerAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "find_posted", _find_nothing)
    with pytest.raises(IntegrityError, match="uq_transfers_actor_id_request_id"):
        _post_same_ids(unchecked_books, keys=1)
    assert unchecked_books.audit_errors() == []


def test_transfer_dropped_on_conflict_is_detected_by_the_audit(
    unchecked_books: LedgerAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignoring_conflicts = _changed(
        ledger.INSERT_TRANSFERS, "RETURNING", "ON CONFLICT DO NOTHING RETURNING"
    )
    insert_transfers = ledger.insert_transfers

    def insert_without_check(connection: Connection, done: Sequence[Transfer]) -> dict[Any, Any]:
        try:
            return insert_transfers(connection, done)
        except KeyError:
            return {transfer.key: ledger.PostedTransfer(0, ()) for transfer in done}

    monkeypatch.setattr(ledger, "find_posted", _find_nothing)
    monkeypatch.setattr(ledger, "INSERT_TRANSFERS", ignoring_conflicts)
    monkeypatch.setattr(ledger, "insert_transfers", insert_without_check)
    _post_same_ids(unchecked_books, keys=1)
    assert "booked" in unchecked_books.audit_errors()[0]


def test_without_lock_on_actors_the_check_constraint_prevents_double_spending(
    unchecked_books: LedgerAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_lock = _changed(ledger.LOCK_ACTORS, "FOR NO KEY UPDATE", "")
    monkeypatch.setattr(ledger, "LOCK_ACTORS", without_lock)
    ann, ben = unchecked_books.open({0: 100}), unchecked_books.open()
    batches = [([unchecked_books.gift(ann, ben, 60)], slot) for slot in (0, 1)]
    with pytest.raises(IntegrityError, match="ck_coin_slots_amount"):
        _post_in_lockstep(unchecked_books, *batches)
    assert unchecked_books.audit_errors() == []


def _is_deadlock(error: OperationalError) -> bool:
    return getattr(error.orig, "pgcode", None) == "40P01"


def test_locks_in_two_statements_deadlock(
    books: LedgerAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_slots = ledger.lock_slots

    def lock_in_two_statements(
        connection: Connection, transfers: Sequence[Transfer], insufficient: set[int], slot: int
    ) -> dict[tuple[int, int], int]:
        consolidated = lock_slots(connection, [], insufficient, slot)
        return consolidated | lock_slots(connection, transfers, set(), slot)

    monkeypatch.setattr(ledger, "lock_slots", lock_in_two_statements)
    ann, ben = books.open({1: 50, 2: 50}), books.open({1: 50, 2: 50})
    with pytest.raises(OperationalError, check=_is_deadlock):
        _crossed_gifts(books, ann, ben)


def test_balance_check_of_slot_0_only_rejects_an_affordable_gift(
    books: LedgerAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "SLOTS", range(1))
    ann, ben = books.open({0: 5, 1: 10}), books.open()
    model = Model({ann.id: 15, ben.id: 0})
    gift = books.gift(ann, ben, 12)
    assert books.statuses(gift) != [model.post(gift)]


def test_balance_of_slot_0_only_is_wrong(
    books: LedgerAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = books.open({0: 5, 1: 10})
    assert books.coins(ann) == [15]
    assert "WHERE coin_account_id" in history.BALANCE.text
    first_slot = history.BALANCE.text.replace("WHERE coin", "WHERE slot = 0 AND coin", 1)
    monkeypatch.setattr(history, "BALANCE", text(first_slot))
    assert books.coins(ann) == [5]
