"""The coin ledger: whatever is posted, in whatever batches and races, the books are right."""

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
from livebackend.database.prepared_statements import Prepared
from livebackend.ledger import history
from livebackend.ledger import posting as ledger
from livebackend.ledger.coin_accounts import external_account
from livebackend.ledger.posting import post
from livebackend.ledger.transfers import (
    CoinAccount,
    Gift,
    Kind,
    Outcome,
    Payment,
    Status,
    Transfer,
    request_key,
)
from tests.support.api import at_once
from tests.support.database_state import DatabaseState
from tests.support.ledger_helpers import Books, Slots, balance, faults, statuses_of
from tests.support.statements import before_each_statement

DONE, REPLAYED = Status.DONE, Status.REPLAYED
CONFLICT, NO_COINS = Status.CONFLICT, Status.NO_COINS


@pytest.fixture
def books(database: Database) -> Iterator[Books]:
    """Books that are right when a test is over."""
    books = Books(database)
    yield books
    assert books.faults() == []


# What a transfer does.


def test_a_gift_moves_coins_and_is_remembered(books: Books, database_state: DatabaseState) -> None:
    ann, ben = books.open({0: 100}), books.open()
    gift = replace(books.gift(ann, ben, 30), gift=Gift(7, 8, "a rose, 'for' \\ {you}"))
    (outcome,) = books.post(gift, slot=4)
    assert outcome.status is DONE
    assert (books.slots(ann), books.slots(ben)) == ({0: 70}, {0: 0, 5: 30})
    (row,) = [row for row in database_state.rows("transfers") if row["kind"] == Kind.GIFT]
    sides = row["id"], row["debit_id"], row["credit_id"], row["amount"], row["actor_id"]
    assert sides == (outcome.transfer_id, ann.id, ben.id, 30, ann.id)
    (remembered,) = database_state.rows("gifts")
    assert remembered == {
        "transfer_id": outcome.transfer_id,
        "host_id": 7,
        "room_id": 8,
        "description": "a rose, 'for' \\ {you}",
    }


@pytest.mark.parametrize("slot", [0, 1, 15, 16, 31, 1000])
def test_a_credit_lands_in_the_writers_slot(slot: int, books: Books) -> None:
    ann = books.open()
    assert books.statuses(books.refill(ann, 10), slot=slot) == [DONE]
    assert books.slots(ann) == {0: 0, 1 + slot % 16: 10}


def test_a_provider_has_neither_slots_nor_a_limit(books: Books) -> None:
    ann = books.open()
    assert books.statuses(*[books.refill(ann, 2**56) for _ in range(4)]) == [DONE] * 4
    assert books.coins(ann) == [2**58]
    assert books.slots(books.bank) == {}


def test_a_provider_is_opened_once(books: Books, database_state: DatabaseState) -> None:
    def opened() -> int:
        return books.database.run(lambda connection: external_account(connection, "other"))

    assert len(set(at_once(*[opened] * 8))) == 1
    providers = [row["provider"] for row in database_state.rows("coin_accounts")]
    assert sorted(filter(None, providers)) == ["direct", "other"]


def test_an_empty_batch_is_nothing(books: Books, database_state: DatabaseState) -> None:
    with database_state.unchanged():
        assert books.post() == []


def test_a_reversal_names_what_it_reverses(books: Books, database_state: DatabaseState) -> None:
    ann, ben = books.open({0: 100}), books.open()
    (given,) = books.post(books.gift(ann, ben, 30))
    back = replace(
        books.gift(ben, ann, 30, "back"), kind=Kind.REVERSAL, gift=None, reverses=given.transfer_id
    )
    assert books.statuses(back) == [DONE]
    assert books.coins(ann, ben) == [100, 0]
    assert [row["reverses_id"] for row in database_state.rows("transfers")][-1] == given.transfer_id
    assert books.statuses(back) == [REPLAYED]
    assert books.statuses(replace(back, reverses=given.transfer_id + 1)) == [CONFLICT]  # type: ignore[operator]  # it is done


def test_whoever_spends_more_than_his_first_slot_has_all_gathered_there(books: Books) -> None:
    ann, ben = books.open({0: 5, 1: 10, 7: 20, 16: 30}), books.open()
    assert books.statuses(books.gift(ann, ben, 5)) == [DONE]
    assert books.slots(ann) == {0: 0, 1: 10, 7: 20, 16: 30}
    assert books.statuses(books.gift(ann, ben, 45)) == [DONE]
    assert books.slots(ann) == {0: 15, 1: 0, 7: 0, 16: 0}
    assert books.coins(ann, ben) == [15, 50]


def test_what_an_earlier_transfer_brings_a_later_one_may_spend(books: Books) -> None:
    ann, ben, cat = books.open({3: 5}), books.open(), books.open()
    batch = [
        books.gift(ben, cat, 12),  # too early
        books.gift(ann, ben, 5),
        books.refill(ben, 10),
        books.gift(ben, cat, 12),
        books.gift(cat, ann, 12),
        books.gift(ben, cat, 4),  # one too many
        books.gift(ben, cat, 3),
    ]
    expected = [NO_COINS, DONE, DONE, DONE, DONE, NO_COINS, DONE]
    assert books.statuses(*batch) == expected
    assert books.coins(ann, ben, cat) == [12, 0, 3]


def test_a_ring_moves_nothing_and_is_booked(books: Books, database_state: DatabaseState) -> None:
    ann, ben = books.open({0: 1, 1: 9}), books.open({0: 1, 1: 9})
    assert books.statuses(books.gift(ann, ben, 10), books.gift(ben, ann, 10)) == [DONE, DONE]
    assert books.coins(ann, ben) == [10, 10]
    assert len(database_state.rows("gifts")) == 2


# Request ids.


def test_a_repetition_moves_nothing_and_names_the_first(
    books: Books, database_state: DatabaseState
) -> None:
    ann, ben = books.open({0: 100}), books.open()
    gift = books.gift(ann, ben, 30)
    (first,) = books.post(gift)
    with database_state.unchanged():
        assert books.post(gift, gift) == [Outcome(REPLAYED, first.transfer_id)] * 2


def test_twins_in_a_batch_are_done_once(books: Books) -> None:
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
def test_a_used_id_moves_no_other_content(
    changed: str, books: Books, database_state: DatabaseState, *, in_one_batch: bool
) -> None:
    ann, ben, cat = books.open({0: 100}), books.open(), books.open()
    gift = books.gift(ann, ben, 30)
    other = {
        "amount": replace(gift, amount=31),
        "credit": replace(gift, credit=cat),
        "debit": replace(gift, debit=books.bank),
        "kind": replace(gift, kind=Kind.REFILL),
        "description": replace(gift, gift=Gift(ben.id + 1000, None, "a Rose")),
        "no gift": replace(gift, gift=None),
        "reverses": replace(gift, reverses=1),
    }[changed]
    if in_one_batch:
        first, second = books.post(gift, other)
    else:
        (first,) = books.post(gift)
        with database_state.unchanged():
            (second,) = books.post(other)
    assert (first.status, second) == (DONE, Outcome(CONFLICT, first.transfer_id))
    assert books.coins(ann, ben, cat) == [70, 30, 0]


def test_where_the_host_was_live_is_no_part_of_the_content(books: Books) -> None:
    # A gift that is repeated after the room was closed is still the same gift.
    ann, ben = books.open({0: 100}), books.open()
    gift = books.gift(ann, ben, 30)
    books.post(gift)
    assert books.statuses(replace(gift, gift=Gift(ben.id + 1000, 9, "a rose"))) == [REPLAYED]


def test_the_same_id_of_two_actors_is_two(books: Books) -> None:
    ann, ben = books.open({0: 100}), books.open({0: 100})
    gift = books.gift(ann, ben, 30)
    theirs = replace(books.gift(ben, ann, 20), request_id=gift.request_id)
    assert books.statuses(gift, theirs) == [DONE, DONE]
    assert books.coins(ann, ben) == [90, 110]


def test_strings_of_different_sources_and_actors_never_meet() -> None:
    keys = {request_key(source, actor, "1") for source in ("a", "b") for actor in (1, 2, 11)}
    assert len(keys) == 6
    assert request_key("a", 1, "x") == request_key("a", 1, "x")


def test_without_coins_the_id_stays_free(books: Books, database_state: DatabaseState) -> None:
    ann, ben = books.open({0: 10, 3: 10}), books.open({1: 0})
    gift = books.gift(ann, ben, 21, "g")
    before = database_state.rows("transfers"), books.slots(ann)
    assert books.post(gift) == [Outcome(NO_COINS)]
    assert (database_state.rows("transfers"), books.slots(ann)) == before
    assert database_state.rows("gifts") == []
    assert books.statuses(replace(gift, amount=20)) == [DONE]


def test_an_id_refused_and_used_in_one_batch_is_the_later_ones(books: Books) -> None:
    ann, ben = books.open({0: 20}), books.open()
    gift = books.gift(ann, ben, 21, "g")
    refused, done = books.post(gift, replace(gift, amount=20))
    assert refused == Outcome(NO_COINS)
    assert done.status is DONE


# Payment orders.


def test_a_refill_settles_its_order(books: Books, database_state: DatabaseState) -> None:
    ann, ben = books.open(), books.open()
    orders = [books.order(ann, 10, "1"), books.order(ben, 10, "2")]
    books.order(ann, 10, "3")
    outcomes = books.post(*orders, books.refill(ann, 5))
    assert statuses_of(outcomes) == [DONE] * 3
    rows = {row["order_id"]: row for row in database_state.rows("payment_orders")}
    assert [rows[n]["state"] for n in "123"] == ["paid", "paid", "pending"]
    assert [rows[n]["transfer_id"] for n in "12"] == [each.transfer_id for each in outcomes[:2]]
    assert books.statuses(*orders) == [REPLAYED] * 2
    assert books.coins(ann, ben) == [15, 10]


@pytest.mark.parametrize("order_id", ["1", "unknown"])
def test_an_order_that_is_not_pending_brings_no_coins(
    order_id: str, books: Books, database_state: DatabaseState
) -> None:
    ann, ben = books.open(), books.open()
    books.post(books.order(ann, 10, "1"))
    again = replace(
        books.refill(ben, 10), payment=Payment("direct", order_id, f"payment {order_id}")
    )
    with database_state.unchanged(), pytest.raises(LookupError):
        books.post(again)


# What is no transfer.


def test_nobody_spends_anothers_coins(books: Books) -> None:
    ann, ben = books.open(), books.open()
    with pytest.raises(ValueError, match="his own coins"):
        replace(books.gift(ann, ben, 1), actor=ben.id)


@pytest.mark.parametrize("amount", [0, -1])
def test_nothing_is_no_transfer(amount: int, books: Books) -> None:
    ann, ben = books.open(), books.open()
    with pytest.raises(ValueError, match="from one account to another"):
        books.gift(ann, ben, amount)
    with pytest.raises(ValueError, match="from one account to another"):
        books.gift(ann, ann, 1)


def test_an_actor_must_have_slots_to_lock(books: Books, database_state: DatabaseState) -> None:
    # His request ids are judged under that lock.
    ann = books.open()
    refill = books.refill(ann, 10)
    with database_state.unchanged():
        for actor in (books.bank.id, 2**40):
            with pytest.raises(LookupError):
                books.post(books.refill(ann, 5), replace(refill, actor=actor))
        stranger = CoinAccount(2**40)
        with pytest.raises(LookupError):
            books.post(books.gift(stranger, ann, 5))


def test_an_unknown_host_gets_nothing(books: Books, database_state: DatabaseState) -> None:
    ann = books.open({0: 10})
    with database_state.unchanged(), pytest.raises(IntegrityError):
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
        ("transfers", {"reverses_id": ":laid"}, "ck_transfers_reverses"),
        ("transfers", {"credit_id": "0"}, "fk_transfers_credit_id"),
        ("transfers", {"debit_id": "0"}, "fk_transfers_debit_id"),
        ("transfers", {"actor_id": "0"}, "fk_transfers_actor_id"),
        ("transfers", {"actor_id": "NULL"}, "actor_id"),
        ("transfers", {"request_id": "NULL"}, "request_id"),
        (
            "transfers",
            {"request_id": "(SELECT request_id FROM transfers WHERE id = :laid)"},
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
def test_the_tables_refuse_what_no_ledger_holds(
    table: str,
    columns: dict[str, str],
    constraint: str,
    books: Books,
    database_state: DatabaseState,
) -> None:
    ann = books.open({0: 10})
    (laid,) = database_state.rows("transfers")
    fit = {
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
    ids = {"bank": books.bank.id, "ann": ann.id, "laid": laid["id"]}
    with books.database.engine.connect() as connection:
        # Rolled back, and proof that nothing but the one column is at fault below.
        connection.execute(_insert(table, fit), ids)
    with (
        database_state.unchanged(),
        pytest.raises(DBAPIError, match=constraint),
        books.database.engine.begin() as connection,
    ):
        connection.execute(_insert(table, fit | columns), ids)


def _insert(table: str, columns: dict[str, str]) -> TextClause:
    return text(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"
    )


# Any batches.

_people = st.integers(0, 2)
_transfers = st.tuples(
    st.sampled_from(["gift", "gift", "gift", "refill"]),
    _people,
    _people,
    st.integers(1, 30),
    # Few keys, so that twins and conflicts are common.
    st.sampled_from([None, None, None, "a", "b"]),
).filter(lambda drawn: drawn[1] != drawn[2])
_slots_of_one = st.dictionaries(st.sampled_from([0, 0, 1, 2, 9, 16]), st.integers(0, 30))


class Model:
    """What the ledger must do, as a child would do it."""

    def __init__(self, coins: Mapping[int, int]) -> None:
        self.coins = dict(coins)
        self.done: dict[tuple[int, uuid.UUID], Transfer] = {}

    def post(self, transfer: Transfer) -> Status:
        before = self.done.get(transfer.key)
        if before:
            return REPLAYED if before.content == transfer.content else CONFLICT
        if not transfer.debit.external:
            if self.coins[transfer.debit.id] < transfer.amount:
                return NO_COINS
            self.coins[transfer.debit.id] -= transfer.amount
        self.coins[transfer.credit.id] += transfer.amount
        self.done[transfer.key] = transfer
        return DONE


def _state(
    connection: Connection, people: Sequence[CoinAccount]
) -> tuple[list[int], list[tuple[object, ...]]]:
    """The balances, and the transfers in the order of their ids."""
    rows = connection.execute(
        text(
            "SELECT actor_id, request_id, kind, debit_id, credit_id, transfers.amount, description"
            " FROM transfers LEFT JOIN gifts ON transfer_id = id ORDER BY id"
        )
    )
    return [balance(connection, person) for person in people], [tuple(row) for row in rows]


@pytest.mark.processes
@given(
    laid=st.tuples(_slots_of_one, _slots_of_one, _slots_of_one),
    batches=st.lists(
        st.tuples(st.lists(_transfers, min_size=1, max_size=8), st.integers(0, 20)),
        min_size=1,
        max_size=2,
    ),
)
# Everybody is short, and everybody gets from another what he gives to the third.
@example(
    laid=({0: 1, 2: 9}, {0: 1, 1: 9}, {9: 10}),
    batches=[([("gift", n, (n + 1) % 3, 10, None) for n in (0, 1, 2)], 0)],
)
@settings(max_examples=300)
def test_a_batch_is_its_transfers_one_by_one(
    database: Database, shared_books: tuple[Books, list[CoinAccount]], laid: Any, batches: Any
) -> None:
    books, people = shared_books
    posted = [
        ([_transfer(books, people, *each) for each in batch], slot) for batch, slot in batches
    ]
    model = Model(
        {person.id: sum(coins.values()) for person, coins in zip(people, laid, strict=True)}
    )
    with database.engine.connect() as connection:
        books.lay(connection, dict(zip(people, laid, strict=True)))
        savepoint = connection.begin_nested()
        singly = [post(connection, [each], slot)[0] for batch, slot in posted for each in batch]
        expected = _state(connection, people)
        assert faults(connection) == []
        savepoint.rollback()
        outcomes = [each for batch, slot in posted for each in post(connection, batch, slot)]
        assert faults(connection) == []
        assert _state(connection, people) == expected
        ids = _ids(connection)
    modelled = [model.post(each) for batch, _ in posted for each in batch]
    assert statuses_of(outcomes) == statuses_of(singly) == modelled
    assert expected[0] == list(model.coins.values())
    # Whoever asked has the id of the transfer that his request became.
    asked = [each for batch, _ in posted for each in batch]
    for transfer, outcome in zip(asked, outcomes, strict=True):
        has_id = outcome.status is not NO_COINS
        assert outcome.transfer_id == (ids[transfer.key] if has_id else None)


def _transfer(books: Books, people: Sequence[CoinAccount], *drawn: Any) -> Transfer:
    what, one, other, coins, key = drawn
    if what == "gift":
        return books.gift(people[one], people[other], coins, key)
    # One may well buy coins for another.
    return replace(books.refill(people[one], coins, key), credit=people[other])


def _ids(connection: Connection) -> dict[tuple[int, uuid.UUID], int]:
    rows = connection.execute(text("SELECT actor_id, request_id, id FROM transfers"))
    return {(row.actor_id, row.request_id): row.id for row in rows}


@pytest.fixture
def shared_books(books: Books) -> tuple[Books, list[CoinAccount]]:
    """Three accounts that every example finds empty: it rolls back what it did."""
    return books, [books.open() for _ in range(3)]


# At the same moment.


def _post_in_step(books: Books, *batches: tuple[Sequence[Transfer], int]) -> list[list[Status]]:
    """Posts batches beside each other, each statement once the others are at theirs.

    Once one waits for another's lock, which nobody can tell from outside, they run freely. A
    deadlock is an error.
    """
    barrier = threading.Barrier(len(batches))

    def wait(*_: object) -> None:
        with suppress(threading.BrokenBarrierError):
            barrier.wait(0.1)

    def run(batch: Sequence[Transfer], slot: int) -> list[Status]:
        with books.database.engine.begin() as connection:
            return statuses_of(post(connection, batch, slot))

    with before_each_statement(wait):
        return at_once(*[partial(run, *each) for each in batches])


def _cross(books: Books, ann: CoinAccount, ben: CoinAccount) -> list[list[Status]]:
    """Either is short, so that his slots are gathered, while the other credits one of them."""
    return _post_in_step(books, ([books.gift(ann, ben, 60)], 0), ([books.gift(ben, ann, 60)], 1))


@pytest.mark.parametrize("slots", [{1: 50, 2: 50}, {0: 1, 2: 99}, {0: 1, 1: 99}, {0: 1, 9: 99}])
def test_who_gathers_and_is_credited_crosswise_waits_in_order(slots: Slots, books: Books) -> None:
    ann, ben = books.open(slots), books.open(slots)
    assert _cross(books, ann, ben) == [[DONE], [DONE]]
    assert books.coins(ann, ben) == [100, 100]


_LOCK_ONE = text(
    """
    SELECT 1 FROM coin_slots WHERE coin_account_id = :account AND slot = :slot
    FOR NO KEY UPDATE
    """
)
_FREE = text("SELECT coin_account_id, slot FROM coin_slots FOR NO KEY UPDATE SKIP LOCKED")
_IS_WAITED_FOR = text(
    "SELECT count(*) FROM pg_stat_activity WHERE :blocker = ANY(pg_blocking_pids(pid))"
)


@pytest.mark.parametrize("stop", range(5))
def test_locks_are_taken_in_order(stop: int, books: Books) -> None:
    """Whoever has to wait for a lock holds all that come before it, and none that come after."""
    ann, ben, cat = books.open({0: 1, 3: 49}), books.open({0: 50, 2: 1}), books.open({2: 1})
    batch = [books.gift(ben, cat, 10), books.gift(ann, ben, 40), books.gift(ann, cat, 1)]
    order = [(ann.id, 0), (ben.id, 0), (ann.id, 3), (ben.id, 2), (cat.id, 2)]
    account, slot = order[stop]
    with books.database.engine.connect() as blocker, books.database.engine.connect() as looker:
        blocker.execute(_LOCK_ONE, {"account": account, "slot": slot})
        process = blocker.execute(text("SELECT pg_backend_pid()")).scalar_one()
        posting = threading.Thread(target=partial(books.post, *batch, slot=1))
        posting.start()
        for _ in range(1000):
            waiting = looker.execute(_IS_WAITED_FOR, {"blocker": process}).scalar_one()
            looker.rollback()  # or it would see the same again
            if waiting:
                break
            time.sleep(0.005)
        free = {(row.coin_account_id, row.slot) for row in looker.execute(_FREE)}
        looker.rollback()
        blocker.rollback()
        posting.join(10)
    assert [each for each in order if each not in free] == order[: stop + 1]
    assert books.coins(ann, ben, cat) == [9, 81, 12]


def test_a_ring_of_three_writers_waits_in_order(books: Books) -> None:
    people = [books.open({1: 50, 2: 50, 3: 50}) for _ in range(3)]
    batches = [
        ([books.gift(people[n], people[m], 40) for m in range(3) if m != n], n) for n in range(3)
    ]
    assert _post_in_step(books, *batches) == [[DONE] * 2] * 3
    assert books.coins(*people) == [150] * 3


def _batch(books: Books, people: Sequence[CoinAccount], dice: random.Random) -> list[Transfer]:
    """Mostly gifts, many of them beyond what lies in slot 0; some twins, some refills."""
    batch = []
    # Of few givers: batches of the same ones go one after the other.
    givers = dice.sample(range(len(people)), 2)
    for _ in range(dice.randint(1, 8)):
        one = dice.choice(givers)
        other = dice.choice([n for n in range(len(people)) if n != one])
        what = dice.choice(["gift"] * 5 + ["refill"])
        key = str(dice.randrange(200)) if dice.random() < 0.3 else None
        batch.append(_transfer(books, people, what, one, other, dice.randint(1, 60), key))
    return batch


@pytest.mark.parametrize("seed", range(15))
def test_any_two_batches_in_step_end(seed: int, books: Books) -> None:
    dice = random.Random(seed)
    people = [books.open({0: 10, 1: 20, 2: 20}) for _ in range(3)]
    batches = [(_batch(books, people, dice), slot) for slot in (0, dice.randrange(2))]
    _post_in_step(books, *batches)


def _spree(books: Books, slots: Sequence[int], *, batches: int) -> None:
    """Writers with these slots post random batches among ten people, all at once."""
    people = [books.open({0: 20, 1: 30, 2: 30, 5: 20}) for _ in range(10)]

    def run(seed: int, slot: int) -> None:
        dice = random.Random(seed)
        for _ in range(batches):
            books.post(*_batch(books, people, dice), slot=slot)

    at_once(*[partial(run, seed, slot) for seed, slot in enumerate(slots)])


@pytest.mark.parametrize("slots", [(0, 1, 2, 3), (0, 0, 0, 0), (0, 0, 1, 1)])
def test_any_batches_of_four_writers_end_and_lose_nothing(
    slots: Sequence[int], books: Books
) -> None:
    _spree(books, slots, batches=60)


def _race(books: Books, *, keys: int) -> list[list[Outcome]]:
    """For each key, eight connections at once, the last with another amount."""
    ann, ben = books.open({0: 10, 3: 1000}), books.open()
    found = []
    for key in range(keys):
        gifts = [books.gift(ann, ben, 10, str(key)) for _ in range(7)]
        gifts.append(books.gift(ann, ben, 11, str(key)))
        calls = [partial(books.post, gift, slot=slot) for slot, gift in enumerate(gifts)]
        found.append([outcome for (outcome,) in at_once(*calls)])
    return found


def test_one_id_from_eight_connections_is_done_once(
    books: Books, database_state: DatabaseState
) -> None:
    for outcomes in _race(books, keys=20):
        assert len({outcome.transfer_id for outcome in outcomes}) == 1
        *same, other = statuses_of(outcomes)
        if other is DONE:
            assert same == [CONFLICT] * 7
        else:
            assert other is CONFLICT
            assert sorted(same, key=str) == [DONE] + [REPLAYED] * 6
    assert len(database_state.rows("gifts")) == 20


def _spend_at_once(books: Books) -> list[Status]:
    """Eight gifts of 40 coins, from an account with 100."""
    ann, ben = books.open({0: 60, 2: 40}), books.open()
    calls = [partial(books.statuses, books.gift(ann, ben, 40), slot=slot) for slot in range(8)]
    return [status for (status,) in at_once(*calls)]


def test_nobody_spends_a_coin_twice(books: Books) -> None:
    for _ in range(5):
        assert sorted(_spend_at_once(books), key=str) == [DONE] * 2 + [NO_COINS] * 6


def test_whoever_locks_a_slot_alone_holds_up_no_insert_of_it(books: Books) -> None:
    # Or a writer that inserts missing slots would wait out of the order of the locks.
    ann, ben = books.open({0: 10}), books.open({1: 1})
    locked = text("SELECT 1 FROM coin_slots WHERE coin_account_id = :id FOR NO KEY UPDATE")
    made = {"accounts": [ben.id], "slots": [1]}
    with books.database.engine.begin() as one, books.database.engine.begin() as other:
        one.execute(locked, {"id": ben.id})
        other.execute(text("SET LOCAL lock_timeout = '100ms'"))
        ledger.INSERT_SLOTS.run(other, made)
    assert books.slots(ann) == {0: 10}


# Each guard, taken away, is missed: by the tests above, or by the tables' own constraints.


@pytest.fixture
def wrong_books(database: Database) -> Books:
    """Books that need not be right when a test is over."""
    return Books(database)


def _changed(statement: Prepared, old: str, new: str) -> Prepared:
    assert old in statement.text
    again = re.sub(r"%\((\w+)\)s", r":\1", statement.text)
    return Prepared(text(again.replace(old, new)))


def _known_to_nobody(connection: Connection, transfers: Sequence[Transfer]) -> dict[Any, Any]:
    return {}


def test_without_a_look_at_the_keys_the_table_refuses_a_second_transfer(
    wrong_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "find_posted", _known_to_nobody)
    with pytest.raises(IntegrityError, match="uq_transfers_actor_id_request_id"):
        _race(wrong_books, keys=1)
    assert wrong_books.faults() == []


def test_a_transfer_that_is_dropped_on_conflict_is_found_by_the_audit(
    wrong_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropping = _changed(ledger.INSERT_TRANSFERS, "RETURNING", "ON CONFLICT DO NOTHING RETURNING")
    record = ledger.insert_transfers

    def careless(connection: Connection, done: Sequence[Transfer]) -> dict[Any, Any]:
        try:
            return record(connection, done)
        except KeyError:
            return {transfer.key: ledger.PostedTransfer(0, ()) for transfer in done}

    monkeypatch.setattr(ledger, "find_posted", _known_to_nobody)
    monkeypatch.setattr(ledger, "INSERT_TRANSFERS", dropping)
    monkeypatch.setattr(ledger, "insert_transfers", careless)
    _race(wrong_books, keys=1)
    assert "booked" in wrong_books.faults()[0]


def test_without_the_actors_lock_a_coin_is_spent_twice_but_for_the_table(
    wrong_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlocked = _changed(ledger.LOCK_ACTORS, "FOR NO KEY UPDATE", "")
    monkeypatch.setattr(ledger, "LOCK_ACTORS", unlocked)
    ann, ben = wrong_books.open({0: 100}), wrong_books.open()
    batches = [([wrong_books.gift(ann, ben, 60)], slot) for slot in (0, 1)]
    with pytest.raises(IntegrityError, match="ck_coin_slots_amount"):
        _post_in_step(wrong_books, *batches)
    assert wrong_books.faults() == []


def _is_deadlock(error: OperationalError) -> bool:
    return getattr(error.orig, "pgcode", None) == "40P01"


def test_two_passes_of_locks_deadlock(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = ledger.lock_slots

    def in_two_passes(
        connection: Connection, transfers: Sequence[Transfer], short: set[int], slot: int
    ) -> dict[tuple[int, int], int]:
        gathered = lock(connection, [], short, slot)
        return gathered | lock(connection, transfers, set(), slot)

    monkeypatch.setattr(ledger, "lock_slots", in_two_passes)
    ann, ben = books.open({1: 50, 2: 50}), books.open({1: 50, 2: 50})
    with pytest.raises(OperationalError, check=_is_deadlock):
        _cross(books, ann, ben)


def test_coins_outside_the_first_slot_are_missed(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "SLOTS", range(1))
    ann, ben = books.open({0: 5, 1: 10}), books.open()
    model = Model({ann.id: 15, ben.id: 0})
    gift = books.gift(ann, ben, 12)
    assert books.statuses(gift) != [model.post(gift)]


def test_a_balance_that_is_not_a_sum_is_wrong(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = books.open({0: 5, 1: 10})
    assert books.coins(ann) == [15]
    assert "WHERE coin_account_id" in history.BALANCE.text
    first = history.BALANCE.text.replace("WHERE coin", "WHERE slot = 0 AND coin", 1)
    monkeypatch.setattr(history, "BALANCE", text(first))
    assert books.coins(ann) == [5]
