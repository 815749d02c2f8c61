"""Posting: effects, request ids, payment orders, constraints and concurrency.

The tests of concurrency include the lock order.
"""

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
from livebackend.ledger import history, posting
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
from tests.support.ledger_helpers import (
    CoinsBySlot,
    LedgerFixture,
    audit_errors,
    balance,
    statuses_of,
)
from tests.support.statements import before_each_statement

DONE, REPLAYED = TransferStatus.DONE, TransferStatus.REPLAYED
CONFLICT, INSUFFICIENT_COINS = TransferStatus.CONFLICT, TransferStatus.INSUFFICIENT_COINS


@pytest.fixture
def ledger(database: Database) -> Iterator[LedgerFixture]:
    """A ledger in which the audit must find no errors after the test."""
    ledger = LedgerFixture(database)
    yield ledger
    assert ledger.audit_errors() == []


def test_gift_moves_coins_and_is_stored(
    ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    gift = replace(ledger.gift(ann, ben, 30), gift=Gift(7, 8, "a rose, 'for' \\ {you}"))
    (outcome,) = ledger.post(gift, slot=4)
    assert outcome.status is DONE
    assert (ledger.slots(ann), ledger.slots(ben)) == ({0: 70}, {0: 0, 5: 30})
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
def test_credit_goes_to_the_slot_of_the_writer(slot: int, ledger: LedgerFixture) -> None:
    ann = ledger.open()
    assert ledger.statuses(ledger.refill(ann, 10), slot=slot) == [DONE]
    assert ledger.slots(ann) == {0: 0, 1 + slot % 16: 10}


def test_provider_account_has_no_slots_and_no_limit(ledger: LedgerFixture) -> None:
    ann = ledger.open()
    assert ledger.statuses(*[ledger.refill(ann, 2**56) for _ in range(4)]) == [DONE] * 4
    assert ledger.coins(ann) == [2**58]
    assert ledger.slots(ledger.provider_account) == {}


def test_concurrent_calls_create_one_provider_account(
    ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    def external_id() -> int:
        return ledger.database.run(lambda connection: external_account(connection, "other"))

    assert len(set(run_concurrently(*[external_id] * 8))) == 1
    providers = [row["provider"] for row in database_state.rows("coin_accounts")]
    assert sorted(filter(None, providers)) == ["direct", "other"]


def test_empty_batch_changes_nothing(ledger: LedgerFixture, database_state: DatabaseState) -> None:
    with database_state.assert_unchanged():
        assert ledger.post() == []


def test_reversal_refers_to_the_reversed_transfer(
    ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    (gift,) = ledger.post(ledger.gift(ann, ben, 30))
    reversal = replace(
        ledger.gift(ben, ann, 30, "reversal"),
        kind=TransferKind.REVERSAL,
        gift=None,
        reverses_id=gift.transfer_id,
    )
    assert ledger.statuses(reversal) == [DONE]
    assert ledger.coins(ann, ben) == [100, 0]
    assert gift.transfer_id
    assert [row["reverses_id"] for row in database_state.rows("transfers")][-1] == gift.transfer_id
    assert ledger.statuses(reversal) == [REPLAYED]
    assert ledger.statuses(replace(reversal, reverses_id=gift.transfer_id + 1)) == [CONFLICT]


def test_spending_more_than_slot_0_consolidates_all_slots_in_slot_0(ledger: LedgerFixture) -> None:
    ann, ben = ledger.open({0: 5, 1: 10, 7: 20, 16: 30}), ledger.open()
    assert ledger.statuses(ledger.gift(ann, ben, 5)) == [DONE]
    assert ledger.slots(ann) == {0: 0, 1: 10, 7: 20, 16: 30}
    assert ledger.statuses(ledger.gift(ann, ben, 45)) == [DONE]
    assert ledger.slots(ann) == {0: 15, 1: 0, 7: 0, 16: 0}
    assert ledger.coins(ann, ben) == [15, 50]


def test_coins_of_an_earlier_transfer_can_be_spent_in_the_same_batch(ledger: LedgerFixture) -> None:
    ann, ben, cat = ledger.open({3: 5}), ledger.open(), ledger.open()
    batch = [
        ledger.gift(ben, cat, 12),  # rejected: no coins yet
        ledger.gift(ann, ben, 5),
        ledger.refill(ben, 10),
        ledger.gift(ben, cat, 12),
        ledger.gift(cat, ann, 12),
        ledger.gift(ben, cat, 4),  # rejected: one coin is missing
        ledger.gift(ben, cat, 3),
    ]
    expected = [INSUFFICIENT_COINS, DONE, DONE, DONE, DONE, INSUFFICIENT_COINS, DONE]
    assert ledger.statuses(*batch) == expected
    assert ledger.coins(ann, ben, cat) == [12, 0, 3]


def test_transfers_with_a_sum_of_zero_are_stored(
    ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    ann, ben = ledger.open({0: 1, 1: 9}), ledger.open({0: 1, 1: 9})
    assert ledger.statuses(ledger.gift(ann, ben, 10), ledger.gift(ben, ann, 10)) == [DONE, DONE]
    assert ledger.coins(ann, ben) == [10, 10]
    assert len(database_state.rows("gifts")) == 2


def test_retry_moves_no_coins_and_returns_the_first_transfer_id(
    ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    gift = ledger.gift(ann, ben, 30)
    (first_outcome,) = ledger.post(gift)
    with database_state.assert_unchanged():
        assert ledger.post(gift, gift) == [TransferOutcome(REPLAYED, first_outcome.transfer_id)] * 2


def test_duplicate_requests_in_a_batch_move_coins_once(ledger: LedgerFixture) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    gift = ledger.gift(ann, ben, 60)
    outcomes = ledger.post(gift, gift, replace(gift, amount=1))
    assert statuses_of(outcomes) == [DONE, REPLAYED, CONFLICT]
    assert len({outcome.transfer_id for outcome in outcomes}) == 1
    assert ledger.coins(ann, ben) == [40, 60]


@pytest.mark.parametrize("is_one_batch", [True, False])
@pytest.mark.parametrize(
    "changed_field", ["amount", "credit", "debit", "kind", "description", "no gift", "reverses"]
)
def test_used_request_id_with_other_content_moves_no_coins(
    changed_field: str, ledger: LedgerFixture, database_state: DatabaseState, *, is_one_batch: bool
) -> None:
    ann, ben, cat = ledger.open({0: 100}), ledger.open(), ledger.open()
    gift = ledger.gift(ann, ben, 30)
    changed_gift = {
        "amount": replace(gift, amount=31),
        "credit": replace(gift, credit=cat),
        "debit": replace(gift, debit=ledger.provider_account),
        "kind": replace(gift, kind=TransferKind.REFILL),
        "description": replace(gift, gift=Gift(ben.id + 1000, None, "a Rose")),
        "no gift": replace(gift, gift=None),
        "reverses": replace(gift, reverses_id=1),
    }[changed_field]
    if is_one_batch:
        first_outcome, second_outcome = ledger.post(gift, changed_gift)
    else:
        (first_outcome,) = ledger.post(gift)
        with database_state.assert_unchanged():
            (second_outcome,) = ledger.post(changed_gift)
    assert (first_outcome.status, second_outcome) == (
        DONE,
        TransferOutcome(CONFLICT, first_outcome.transfer_id),
    )
    assert ledger.coins(ann, ben, cat) == [70, 30, 0]


def test_retry_with_another_room_id_is_the_same_request(ledger: LedgerFixture) -> None:
    # If a client retries a gift after the host's room was closed, the retry has another room id.
    ann, ben = ledger.open({0: 100}), ledger.open()
    gift = ledger.gift(ann, ben, 30)
    ledger.post(gift)
    assert ledger.statuses(replace(gift, gift=Gift(ben.id + 1000, 9, "a rose"))) == [REPLAYED]


def test_two_actors_can_use_the_same_request_id(ledger: LedgerFixture) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open({0: 100})
    gift = ledger.gift(ann, ben, 30)
    other_gift = replace(ledger.gift(ben, ann, 20), request_id=gift.request_id)
    assert ledger.statuses(gift, other_gift) == [DONE, DONE]
    assert ledger.coins(ann, ben) == [90, 110]


def test_request_keys_of_different_sources_and_actors_differ() -> None:
    keys = {
        derive_request_id(source, actor_id, "1") for source in ("a", "b") for actor_id in (1, 2, 11)
    }
    assert len(keys) == 6
    assert derive_request_id("a", 1, "x") == derive_request_id("a", 1, "x")


def test_request_id_can_be_used_again_after_insufficient_balance(
    ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    ann, ben = ledger.open({0: 10, 3: 10}), ledger.open({1: 0})
    gift = ledger.gift(ann, ben, 21, "g")
    state_before = database_state.rows("transfers"), ledger.slots(ann)
    assert ledger.post(gift) == [TransferOutcome(INSUFFICIENT_COINS)]
    assert (database_state.rows("transfers"), ledger.slots(ann)) == state_before
    assert database_state.rows("gifts") == []
    assert ledger.statuses(replace(gift, amount=20)) == [DONE]


def test_request_id_can_be_used_again_in_the_same_batch_after_insufficient_balance(
    ledger: LedgerFixture,
) -> None:
    ann, ben = ledger.open({0: 20}), ledger.open()
    gift = ledger.gift(ann, ben, 21, "g")
    rejected_outcome, done_outcome = ledger.post(gift, replace(gift, amount=20))
    assert rejected_outcome == TransferOutcome(INSUFFICIENT_COINS)
    assert done_outcome.status is DONE


def test_refill_settles_its_payment_order(
    ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    ann, ben = ledger.open(), ledger.open()
    orders = [ledger.order_refill(ann, 10, "1"), ledger.order_refill(ben, 10, "2")]
    ledger.order_refill(ann, 10, "3")
    outcomes = ledger.post(*orders, ledger.refill(ann, 5))
    assert statuses_of(outcomes) == [DONE] * 3
    rows = {row["order_id"]: row for row in database_state.rows("payment_orders")}
    assert [rows[n]["state"] for n in "123"] == ["paid", "paid", "pending"]
    assert [rows[n]["transfer_id"] for n in "12"] == [
        outcome.transfer_id for outcome in outcomes[:2]
    ]
    assert ledger.statuses(*orders) == [REPLAYED] * 2
    assert ledger.coins(ann, ben) == [15, 10]


@pytest.mark.parametrize("order_id", ["1", "unknown"])
def test_refill_for_an_unknown_or_paid_order_moves_no_coins(
    order_id: str, ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    ann, ben = ledger.open(), ledger.open()
    ledger.post(ledger.order_refill(ann, 10, "1"))
    refill = replace(
        ledger.refill(ben, 10), payment=Payment("direct", order_id, f"payment {order_id}")
    )
    with database_state.assert_unchanged(), pytest.raises(LookupError):
        ledger.post(refill)


def test_actor_cannot_spend_coins_of_another_account(ledger: LedgerFixture) -> None:
    ann, ben = ledger.open(), ledger.open()
    with pytest.raises(ValueError, match="debit must be external or the account of the actor"):
        replace(ledger.gift(ann, ben, 1), actor_id=ben.id)


@pytest.mark.parametrize("amount", [0, -1])
def test_amount_of_a_transfer_must_be_positive(amount: int, ledger: LedgerFixture) -> None:
    ann, ben = ledger.open(), ledger.open()
    with pytest.raises(ValueError, match="amount must be positive"):
        ledger.gift(ann, ben, amount)


def test_debit_and_credit_of_a_transfer_must_differ(ledger: LedgerFixture) -> None:
    ann = ledger.open()
    with pytest.raises(ValueError, match="debit and credit are the same account"):
        ledger.gift(ann, ann, 1)


def test_actor_without_slot_0_is_rejected(
    ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    # Posting locks slot 0 before it looks up the actor's request ids, so slot 0 must exist.
    ann = ledger.open()
    refill = ledger.refill(ann, 10)
    with database_state.assert_unchanged():
        for actor_id in (ledger.provider_account.id, 2**40):
            with pytest.raises(LookupError):
                ledger.post(ledger.refill(ann, 5), replace(refill, actor_id=actor_id))
        unknown_account = CoinAccount(2**40)
        with pytest.raises(LookupError):
            ledger.post(ledger.gift(unknown_account, ann, 5))


def test_gift_to_an_unknown_account_is_rejected(
    ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    ann = ledger.open({0: 10})
    with database_state.assert_unchanged(), pytest.raises(IntegrityError):
        ledger.post(ledger.gift(ann, CoinAccount(2**40), 5))


@pytest.mark.parametrize(
    ("table", "columns", "constraint"),
    [
        ("transfers", {"amount": "0"}, "ck_transfers_amount"),
        ("transfers", {"amount": "-1"}, "ck_transfers_amount"),
        ("transfers", {"amount": "9223372036854775808"}, "out of range"),
        ("transfers", {"credit_id": ":provider"}, "ck_transfers_distinct_accounts"),
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
    ledger: LedgerFixture,
    database_state: DatabaseState,
) -> None:
    ann = ledger.open({0: 10})
    (existing_transfer,) = database_state.rows("transfers")
    valid_row = {
        "transfers": {
            "kind": "2",
            "debit_id": ":provider",
            "credit_id": ":ann",
            "amount": "1",
            "actor_id": ":ann",
            "request_id": "gen_random_uuid()",
        },
        "coin_slots": {"coin_account_id": ":ann", "slot": "1", "amount": "0"},
    }[table]
    ids = {
        "provider": ledger.provider_account.id,
        "ann": ann.id,
        "existing": existing_transfer["id"],
    }
    with ledger.database.engine.connect() as connection:
        # The constraints accept the row without the changes in `columns`. Closing the connection
        # rolls back this insert.
        connection.execute(_insert(table, valid_row), ids)
    with (
        database_state.assert_unchanged(),
        pytest.raises(DBAPIError, match=constraint),
        ledger.database.engine.begin() as connection,
    ):
        connection.execute(_insert(table, valid_row | columns), ids)


def _insert(table: str, columns: dict[str, str]) -> TextClause:
    return text(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"
    )


_account_indexes = st.integers(0, 2)
_transfer_arguments = st.tuples(
    st.sampled_from(["gift", "gift", "gift", "refill"]),
    _account_indexes,
    _account_indexes,
    st.integers(1, 30),
    # Request key (None: a new request id). With two keys, retries and conflicts are frequent.
    st.sampled_from([None, None, None, "a", "b"]),
).filter(lambda transfer: transfer[1] != transfer[2])
_coins_by_slot = st.dictionaries(st.sampled_from([0, 0, 1, 2, 9, 16]), st.integers(0, 30))


class Model:
    """A simple model of the ledger, without slots and batches."""

    def __init__(self, coins: Mapping[int, int]) -> None:
        self.coins = dict(coins)
        self.done: dict[tuple[int, uuid.UUID], Transfer] = {}

    def post(self, transfer: Transfer) -> TransferStatus:
        earlier_transfer = self.done.get(transfer.key)
        if earlier_transfer:
            return (
                REPLAYED
                if earlier_transfer.compared_fields == transfer.compared_fields
                else CONFLICT
            )
        if not transfer.debit.external:
            if self.coins[transfer.debit.id] < transfer.amount:
                return INSUFFICIENT_COINS
            self.coins[transfer.debit.id] -= transfer.amount
        self.coins[transfer.credit.id] += transfer.amount
        self.done[transfer.key] = transfer
        return DONE


def _ledger_state(
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
    initial_slots=st.tuples(_coins_by_slot, _coins_by_slot, _coins_by_slot),
    batches=st.lists(
        st.tuples(st.lists(_transfer_arguments, min_size=1, max_size=8), st.integers(0, 20)),
        min_size=1,
        max_size=2,
    ),
)
# In this example, each account consolidates its slots and spends the coins that it receives.
@example(
    initial_slots=({0: 1, 2: 9}, {0: 1, 1: 9}, {9: 10}),
    batches=[([("gift", n, (n + 1) % 3, 10, None) for n in (0, 1, 2)], 0)],
)
@settings(max_examples=300)
def test_batch_has_the_same_result_as_single_transfers_and_the_model(
    database: Database,
    empty_accounts: tuple[LedgerFixture, list[CoinAccount]],
    initial_slots: Any,
    batches: Any,
) -> None:
    ledger, accounts = empty_accounts
    transfer_batches = [
        ([_new_transfer(ledger, accounts, *arguments) for arguments in batch], slot)
        for batch, slot in batches
    ]
    transfers = [transfer for batch, _ in transfer_batches for transfer in batch]
    model = Model(
        {
            account.id: sum(coins.values())
            for account, coins in zip(accounts, initial_slots, strict=True)
        }
    )
    with database.engine.connect() as connection:
        ledger.set_up_balances(connection, dict(zip(accounts, initial_slots, strict=True)))
        savepoint = connection.begin_nested()
        single_outcomes = [
            post(connection, [transfer], slot)[0]
            for batch, slot in transfer_batches
            for transfer in batch
        ]
        expected = _ledger_state(connection, accounts)
        assert audit_errors(connection) == []
        savepoint.rollback()
        outcomes = [
            outcome for batch, slot in transfer_batches for outcome in post(connection, batch, slot)
        ]
        assert audit_errors(connection) == []
        assert _ledger_state(connection, accounts) == expected
        ids = _transfer_ids(connection)
    model_statuses = [model.post(transfer) for transfer in transfers]
    assert statuses_of(outcomes) == statuses_of(single_outcomes) == model_statuses
    assert expected[0] == list(model.coins.values())
    # Unless the coins are insufficient, an outcome has the id of the transfer that was posted with
    # the request id.
    for transfer, outcome in zip(transfers, outcomes, strict=True):
        has_id = outcome.status is not INSUFFICIENT_COINS
        assert outcome.transfer_id == (ids[transfer.key] if has_id else None)


def _new_transfer(
    ledger: LedgerFixture,
    accounts: Sequence[CoinAccount],
    kind: str,
    actor_index: int,
    recipient_index: int,
    coins: int,
    key: str | None,
) -> Transfer:
    if kind == "gift":
        return ledger.gift(accounts[actor_index], accounts[recipient_index], coins, key)
    # The actor refills another user's account, which the ledger allows.
    return replace(
        ledger.refill(accounts[actor_index], coins, key), credit=accounts[recipient_index]
    )


def _transfer_ids(connection: Connection) -> dict[tuple[int, uuid.UUID], int]:
    rows = connection.execute(text("SELECT actor_id, request_id, id FROM transfers"))
    return {(row.actor_id, row.request_id): row.id for row in rows}


@pytest.fixture
def empty_accounts(ledger: LedgerFixture) -> tuple[LedgerFixture, list[CoinAccount]]:
    """Three empty coin accounts; the test must roll back the changes of each example."""
    return ledger, [ledger.open() for _ in range(3)]


def _post_in_lockstep(
    ledger: LedgerFixture, *batches: tuple[Sequence[Transfer], int]
) -> list[list[TransferStatus]]:
    """Post batches concurrently; writers wait for each other before each statement.

    The barrier has a timeout, because a writer that waits for a lock cannot reach the barrier. A
    deadlock raises an error. Returns the statuses of each batch.
    """
    barrier = threading.Barrier(len(batches))

    def wait_for_other_writers(*_: object) -> None:
        with suppress(threading.BrokenBarrierError):
            barrier.wait(0.1)

    def run(batch: Sequence[Transfer], slot: int) -> list[TransferStatus]:
        with ledger.database.engine.begin() as connection:
            return statuses_of(post(connection, batch, slot))

    with before_each_statement(wait_for_other_writers):
        return run_concurrently(*[partial(run, *batch) for batch in batches])


def _post_crossed_gifts(
    ledger: LedgerFixture, ann: CoinAccount, ben: CoinAccount
) -> list[list[TransferStatus]]:
    """Concurrently post a gift in each direction; each consolidates the giver's slots."""
    return _post_in_lockstep(
        ledger, ([ledger.gift(ann, ben, 60)], 0), ([ledger.gift(ben, ann, 60)], 1)
    )


@pytest.mark.parametrize("slots", [{1: 50, 2: 50}, {0: 1, 2: 99}, {0: 1, 1: 99}, {0: 1, 9: 99}])
def test_opposite_gifts_that_consolidate_slots_do_not_deadlock(
    slots: CoinsBySlot, ledger: LedgerFixture
) -> None:
    ann, ben = ledger.open(slots), ledger.open(slots)
    assert _post_crossed_gifts(ledger, ann, ben) == [[DONE], [DONE]]
    assert ledger.coins(ann, ben) == [100, 100]


_LOCK_SLOT = text(
    """
    SELECT 1 FROM coin_slots WHERE coin_account_id = :account AND slot = :slot
    FOR NO KEY UPDATE
    """
)
_LOCK_UNLOCKED_SLOTS = text(
    "SELECT coin_account_id, slot FROM coin_slots FOR NO KEY UPDATE SKIP LOCKED"
)
_COUNT_BLOCKED_CONNECTIONS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE :blocker = ANY(pg_blocking_pids(pid))"
)


@pytest.mark.parametrize("lock_position", range(5))
def test_locks_are_acquired_in_order(lock_position: int, ledger: LedgerFixture) -> None:
    """A writer that waits for a lock holds all earlier locks and no later ones."""
    ann, ben, cat = ledger.open({0: 1, 3: 49}), ledger.open({0: 50, 2: 1}), ledger.open({2: 1})
    batch = [ledger.gift(ben, cat, 10), ledger.gift(ann, ben, 40), ledger.gift(ann, cat, 1)]
    lock_order = [(ann.id, 0), (ben.id, 0), (ann.id, 3), (ben.id, 2), (cat.id, 2)]
    account, slot = lock_order[lock_position]
    with ledger.database.engine.connect() as blocker, ledger.database.engine.connect() as observer:
        blocker.execute(_LOCK_SLOT, {"account": account, "slot": slot})
        backend_pid = blocker.execute(text("SELECT pg_backend_pid()")).scalar_one()
        posting_thread = threading.Thread(target=partial(ledger.post, *batch, slot=1))
        posting_thread.start()
        for _ in range(1000):
            is_waiting = observer.execute(
                _COUNT_BLOCKED_CONNECTIONS, {"blocker": backend_pid}
            ).scalar_one()
            observer.rollback()  # pg_stat_activity is constant within a transaction
            if is_waiting:
                break
            time.sleep(0.005)
        unlocked_slots = {
            (row.coin_account_id, row.slot) for row in observer.execute(_LOCK_UNLOCKED_SLOTS)
        }
        observer.rollback()
        blocker.rollback()
        posting_thread.join(10)
    assert [slot for slot in lock_order if slot not in unlocked_slots] == lock_order[
        : lock_position + 1
    ]
    assert ledger.coins(ann, ben, cat) == [9, 81, 12]


def test_three_writers_with_circular_gifts_do_not_deadlock(ledger: LedgerFixture) -> None:
    accounts = [ledger.open({1: 50, 2: 50, 3: 50}) for _ in range(3)]
    batches = [
        (
            [
                ledger.gift(accounts[giver], accounts[recipient], 40)
                for recipient in range(3)
                if recipient != giver
            ],
            giver,
        )
        for giver in range(3)
    ]
    assert _post_in_lockstep(ledger, *batches) == [[DONE] * 2] * 3
    assert ledger.coins(*accounts) == [150] * 3


def _random_batch(
    ledger: LedgerFixture, accounts: Sequence[CoinAccount], rng: random.Random
) -> list[Transfer]:
    """Return a batch of gifts, refills and retries.

    Many gifts need coins of several slots.
    """
    batch = []
    # Batches with transfers of the same actor run one after the other. Each batch has only two
    # actors, so that most batches run concurrently.
    actor_indexes = rng.sample(range(len(accounts)), 2)
    for _ in range(rng.randint(1, 8)):
        actor_index = rng.choice(actor_indexes)
        recipient_index = rng.choice([n for n in range(len(accounts)) if n != actor_index])
        kind = rng.choice(["gift"] * 5 + ["refill"])
        key = str(rng.randrange(200)) if rng.random() < 0.3 else None
        batch.append(
            _new_transfer(
                ledger, accounts, kind, actor_index, recipient_index, rng.randint(1, 60), key
            )
        )
    return batch


@pytest.mark.parametrize("seed", range(15))
def test_two_random_batches_in_lockstep_do_not_deadlock(seed: int, ledger: LedgerFixture) -> None:
    rng = random.Random(seed)
    accounts = [ledger.open({0: 10, 1: 20, 2: 20}) for _ in range(3)]
    batches = [(_random_batch(ledger, accounts, rng), slot) for slot in (0, rng.randrange(2))]
    _post_in_lockstep(ledger, *batches)


def _post_random_batches(ledger: LedgerFixture, slots: Sequence[int], *, batch_count: int) -> None:
    """Post random batches among ten accounts, with one concurrent writer per slot."""
    accounts = [ledger.open({0: 20, 1: 30, 2: 30, 5: 20}) for _ in range(10)]

    def run(seed: int, slot: int) -> None:
        rng = random.Random(seed)
        for _ in range(batch_count):
            ledger.post(*_random_batch(ledger, accounts, rng), slot=slot)

    run_concurrently(*[partial(run, seed, slot) for seed, slot in enumerate(slots)])


@pytest.mark.parametrize("slots", [(0, 1, 2, 3), (0, 0, 0, 0), (0, 0, 1, 1)])
def test_random_batches_of_four_writers_neither_deadlock_nor_lose_coins(
    slots: Sequence[int], ledger: LedgerFixture
) -> None:
    _post_random_batches(ledger, slots, batch_count=60)


def _post_same_request_ids(
    ledger: LedgerFixture, *, request_id_count: int
) -> list[list[TransferOutcome]]:
    """For each request id, post eight gifts concurrently; return the eight outcomes of each.

    The last gift with each request id has a different amount.
    """
    ann, ben = ledger.open({0: 10, 3: 1000}), ledger.open()
    outcomes = []
    for request_id in map(str, range(request_id_count)):
        gifts = [ledger.gift(ann, ben, 10, request_id) for _ in range(7)]
        gifts.append(ledger.gift(ann, ben, 11, request_id))
        calls = [partial(ledger.post, gift, slot=slot) for slot, gift in enumerate(gifts)]
        outcomes.append([outcome for (outcome,) in run_concurrently(*calls)])
    return outcomes


def test_request_id_sent_on_eight_connections_moves_coins_once(
    ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    for outcomes in _post_same_request_ids(ledger, request_id_count=20):
        assert len({outcome.transfer_id for outcome in outcomes}) == 1
        *equal_gift_statuses, different_gift_status = statuses_of(outcomes)
        if different_gift_status is DONE:
            assert equal_gift_statuses == [CONFLICT] * 7
        else:
            assert different_gift_status is CONFLICT
            assert sorted(equal_gift_statuses, key=str) == [DONE] + [REPLAYED] * 6
    assert len(database_state.rows("gifts")) == 20


def _spend_concurrently(ledger: LedgerFixture) -> list[TransferStatus]:
    """Post eight gifts of 40 coins concurrently; return their statuses.

    The account of the giver has 100 coins.
    """
    ann, ben = ledger.open({0: 60, 2: 40}), ledger.open()
    calls = [partial(ledger.statuses, ledger.gift(ann, ben, 40), slot=slot) for slot in range(8)]
    return [status for (status,) in run_concurrently(*calls)]


def test_concurrent_gifts_do_not_spend_a_coin_twice(ledger: LedgerFixture) -> None:
    for _ in range(5):
        assert sorted(_spend_concurrently(ledger), key=str) == [DONE] * 2 + [INSUFFICIENT_COINS] * 6


def test_locked_slot_does_not_block_an_insert_of_the_same_slot(ledger: LedgerFixture) -> None:
    # Posting inserts slots before it locks slots in a fixed order. An insert that waited for a lock
    # would break this order, so that a deadlock would be possible.
    ann, ben = ledger.open({0: 10}), ledger.open({1: 1})
    lock_query = text("SELECT 1 FROM coin_slots WHERE coin_account_id = :id FOR NO KEY UPDATE")
    insert_parameters = {"accounts": [ben.id], "slots": [1]}
    with (
        ledger.database.engine.begin() as locking_connection,
        ledger.database.engine.begin() as inserting_connection,
    ):
        locking_connection.execute(lock_query, {"id": ben.id})
        inserting_connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
        posting.INSERT_SLOTS.run(inserting_connection, insert_parameters)
    assert ledger.slots(ann) == {0: 10}


# Each test below removes one safeguard from a statement of posting, and checks which error follows.


@pytest.fixture
def unchecked_ledger(database: Database) -> LedgerFixture:
    """A ledger that is not audited after the test."""
    return LedgerFixture(database)


def _with_replaced_text(
    statement: PreparedStatement, old_text: str, new_text: str
) -> PreparedStatement:
    assert old_text in statement.text
    with_named_parameters = re.sub(r"%\((\w+)\)s", r":\1", statement.text)
    return PreparedStatement(text(with_named_parameters.replace(old_text, new_text)))


def _find_no_posted_transfers(
    connection: Connection, transfers: Sequence[Transfer]
) -> dict[Any, Any]:
    return {}


def test_without_lookup_of_request_ids_the_unique_constraint_rejects_a_duplicate(
    unchecked_ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "find_posted", _find_no_posted_transfers)
    with pytest.raises(IntegrityError, match="uq_transfers_actor_id_request_id"):
        _post_same_request_ids(unchecked_ledger, request_id_count=1)
    assert unchecked_ledger.audit_errors() == []


def test_transfer_dropped_on_conflict_is_detected_by_the_audit(
    unchecked_ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignoring_conflicts = _with_replaced_text(
        posting.WRITE_TRANSFERS, "RETURNING", "ON CONFLICT DO NOTHING RETURNING"
    )
    write_transfers = posting.write_transfers

    def write_without_check(
        connection: Connection, accepted_transfers: Sequence[Transfer], deltas: Any, **options: Any
    ) -> dict[Any, Any]:
        try:
            return write_transfers(connection, accepted_transfers, deltas, **options)
        except KeyError:
            return {transfer.key: 0 for transfer in accepted_transfers}

    monkeypatch.setattr(posting, "find_posted", _find_no_posted_transfers)
    monkeypatch.setattr(posting, "WRITE_TRANSFERS", ignoring_conflicts)
    monkeypatch.setattr(posting, "write_transfers", write_without_check)
    _post_same_request_ids(unchecked_ledger, request_id_count=1)
    assert "booked" in unchecked_ledger.audit_errors()[0]


def test_without_lock_on_actors_the_check_constraint_prevents_double_spending(
    unchecked_ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_lock = _with_replaced_text(posting.LOCK_ACTORS, "FOR NO KEY UPDATE", "")
    monkeypatch.setattr(posting, "LOCK_ACTORS", without_lock)
    ann, ben = unchecked_ledger.open({0: 100}), unchecked_ledger.open()
    batches = [([unchecked_ledger.gift(ann, ben, 60)], slot) for slot in (0, 1)]
    with pytest.raises(IntegrityError, match="ck_coin_slots_amount"):
        _post_in_lockstep(unchecked_ledger, *batches)
    assert unchecked_ledger.audit_errors() == []


def _is_deadlock(error: OperationalError) -> bool:
    return getattr(error.orig, "pgcode", None) == "40P01"


def test_slots_that_are_locked_in_two_statements_cause_a_deadlock(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_slots = posting.lock_slots

    def lock_in_two_statements(
        connection: Connection, transfers: Sequence[Transfer], insufficient: set[int], slot: int
    ) -> dict[tuple[int, int], int]:
        consolidated_slots = lock_slots(connection, [], insufficient, slot)
        return consolidated_slots | lock_slots(connection, transfers, set(), slot)

    monkeypatch.setattr(posting, "lock_slots", lock_in_two_statements)
    ann, ben = ledger.open({1: 50, 2: 50}), ledger.open({1: 50, 2: 50})
    with pytest.raises(OperationalError, check=_is_deadlock):
        _post_crossed_gifts(ledger, ann, ben)


def test_balance_check_of_only_slot_0_rejects_an_affordable_gift(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "SLOTS", range(1))
    ann, ben = ledger.open({0: 5, 1: 10}), ledger.open()
    model = Model({ann.id: 15, ben.id: 0})
    gift = ledger.gift(ann, ben, 12)
    assert ledger.statuses(gift) != [model.post(gift)]


def test_balance_query_of_only_slot_0_returns_a_wrong_balance(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = ledger.open({0: 5, 1: 10})
    assert ledger.coins(ann) == [15]
    assert "WHERE coin_account_id" in history.BALANCE.text
    slot_0_query = history.BALANCE.text.replace("WHERE coin", "WHERE slot = 0 AND coin", 1)
    monkeypatch.setattr(history, "BALANCE", text(slot_0_query))
    assert ledger.coins(ann) == [5]
