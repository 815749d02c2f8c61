"""The audit: right books are all zeros, and each thing that may be wrong is found."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from livebackend.database.engine import Database
from livebackend.ledger.audit import NAMES, Finding, audit, look
from livebackend.ledger.batch_writer import LedgerWriter
from livebackend.ledger.checkpoints import Seal, seal
from livebackend.ledger.posting import post
from livebackend.ledger.reversals import Reversals
from livebackend.ledger.transfers import CoinAccount, Kind, Status
from tests.support.api import at_once
from tests.support.database_state import DatabaseState
from tests.support.ledger_helpers import Books


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)


@pytest.fixture
def reversals(database: Database) -> Iterator[Reversals]:
    writer = LedgerWriter(database, number=3)
    yield Reversals(database, writer)
    writer.close()


@pytest.fixture
def people(books: Books) -> list[CoinAccount]:
    """Three who have done everything that one can do with coins."""
    ann, ben, cat = (books.open({0: 50, 3: 50}) for _ in range(3))
    books.post(books.gift(ann, ben, 70), books.refill(cat, 10), books.order(ann, 50), slot=5)
    (gift,) = books.post(books.gift(cat, ann, 5))
    back = replace(
        books.gift(ann, cat, 5), kind=Kind.REVERSAL, gift=None, reverses=gift.transfer_id
    )
    books.post(back)
    return [ann, ben, cat]


def found(database: Database, *, since_seal: bool = False) -> list[Finding]:
    return audit(database, since_seal=since_seal).findings


def sealed(database: Database) -> Seal:
    made = seal(database)
    assert made
    return made


@pytest.mark.parametrize("since_seal", [False, True])
class TestRightBooks:
    def test_without_a_transfer(
        self, database: Database, database_state: DatabaseState, *, since_seal: bool
    ) -> None:
        done = audit(database, since_seal=since_seal)
        assert (done.transfers, done.coins, done.findings) == (0, 0, [])

    def test_with_all_that_can_be(
        self, database: Database, people: list[CoinAccount], *, since_seal: bool
    ) -> None:
        done = audit(database, since_seal=since_seal)
        assert (done.coins, done.findings) == (360, [])
        assert done.transfers == 11

    def test_sealed_twice_and_going_on(
        self, database: Database, people: list[CoinAccount], books: Books, *, since_seal: bool
    ) -> None:
        sealed(database)
        books.post(books.gift(people[1], people[2], 20))
        sealed(database)
        books.post(books.gift(people[2], people[0], 15))
        done = audit(database, since_seal=since_seal)
        assert done.findings == []
        assert done.transfers == (1 if since_seal else 13)


def test_every_check_is_announced(database: Database, database_state: DatabaseState) -> None:
    begun: list[str] = []
    audit(database, since_seal=False, begun=begun.append)
    assert begun == NAMES


def test_it_looks_at_one_moment(database: Database, books: Books) -> None:
    people = [books.open({0: 1000}) for _ in range(4)]

    def spend() -> None:
        for n in range(60):
            books.post(books.gift(people[n % 4], people[(n + 1) % 4], 1))

    def look() -> None:
        for _ in range(8):
            assert found(database) == []

    at_once(spend, look)


SPOILED = {
    "negative": (
        "balances that are negative",
        [
            "ALTER TABLE coin_slots DROP CONSTRAINT ck_coin_slots_amount",
            "UPDATE coin_slots SET amount = -1 WHERE ctid = (SELECT min(ctid) FROM coin_slots)",
        ],
    ),
    "a coin too many": (
        "balances that differ from the history",
        ["UPDATE coin_slots SET amount = amount + 1 WHERE slot = 0"],
    ),
    "held without a transfer": (
        "coins that came in, less those that went out, and are not held",
        ["DELETE FROM transfers WHERE kind = 2"],
    ),
    "a slot that is gone": (
        "balances that differ from the history",
        ["DELETE FROM coin_slots WHERE slot = 6"],
    ),
    "an amount that was changed": (
        "balances that differ from the history",
        ["UPDATE transfers SET amount = amount + 1 WHERE kind = 1"],
    ),
    "twice": (
        "request ids that were done twice",
        [
            "ALTER TABLE transfers DROP CONSTRAINT uq_transfers_actor_id_request_id",
            "UPDATE transfers SET request_id = '00000000-0000-4000-8000-000000000000'",
        ],
    ),
    "a refill from a user": (
        "transfers of a wrong kind",
        ["UPDATE transfers SET kind = 2 WHERE kind = 1"],
    ),
    "a gift that says nothing": (
        "gifts without a transfer, and the reverse",
        ["DELETE FROM gifts WHERE ctid = (SELECT min(ctid) FROM gifts)"],
    ),
    "a gift of nothing": (
        "gifts without a transfer, and the reverse",
        ["INSERT INTO gifts (transfer_id, host_id, description) VALUES (999999999, 1, 'x')"],
    ),
    "an order for more": (
        "paid orders that differ from their transfer",
        ["UPDATE payment_orders SET coins = coins + 1"],
    ),
    "a paid order without a transfer": (
        "paid orders that differ from their transfer",
        ["UPDATE payment_orders SET transfer_id = 999999999"],
    ),
    "a refill without an order": (
        "refills that no order was paid for",
        [
            "UPDATE coin_accounts SET provider = 'wechat' WHERE provider = 'direct'",
            "UPDATE payment_orders SET provider = 'wechat'",
        ],
    ),
    "a reversal of less": (
        "reversals that differ from what they reverse",
        ["UPDATE transfers SET amount = amount - 1 WHERE kind = 9"],
    ),
    "a reversal that is open": (
        "reversals that are open",
        ["INSERT INTO reversal_requests (transfer_id, reason) SELECT min(id), 'x' FROM transfers"],
    ),
}


@contextmanager
def spoiled(database: Database, *statements: str) -> Iterator[Callable[..., set[str]]]:
    """Does what the tables' own guards forbid, and undoes it; gives the names of what is found."""
    with database.engine.connect() as connection:
        for statement in ("SET LOCAL session_replication_role = replica", *statements):
            connection.execute(text(statement))

        def checks(*, since_seal: bool) -> set[str]:
            done = look(connection, since_seal=since_seal, begun=lambda name: None)
            return {finding.check for finding in done.findings}

        yield checks
        connection.rollback()


@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("since_seal", [False, True])
def test_what_is_wrong_is_found(
    name: str, database: Database, people: list[CoinAccount], *, since_seal: bool
) -> None:
    check, statements = SPOILED[name]
    with spoiled(database, *statements) as checks:
        assert check in checks(since_seal=since_seal)
    assert found(database) == []


def test_findings_are_listed_up_to_a_bound(database: Database, books: Books) -> None:
    for _ in range(120):
        books.open({0: 1})
    with database.engine.connect() as connection:
        connection.execute(text("UPDATE coin_slots SET amount = amount + 1"))
        done = look(connection, since_seal=False, begun=lambda name: None)
        connection.rollback()
    differing = [each for each in done.findings if "differ from the history" in each.check]
    assert len(differing) == 100


class TestSeals:
    def test_nothing_new_makes_none(self, database: Database, people: list[CoinAccount]) -> None:
        assert sealed(database).transfers == 11
        assert seal(database) is None

    def test_empty_books_make_none(self, database: Database, database_state: DatabaseState) -> None:
        assert seal(database) is None

    def test_each_is_chained_to_the_one_before(
        self, database: Database, people: list[CoinAccount], books: Books
    ) -> None:
        first = sealed(database)
        books.post(books.gift(people[1], people[2], 20), books.gift(people[1], people[2], 1))
        second = sealed(database)
        assert first.previous_sha256 is None
        assert second.previous_sha256 == first.sha256
        assert (second.transfers, second.amount_sum) == (2, 21)

    def test_the_closings_are_what_each_account_got(
        self,
        database: Database,
        people: list[CoinAccount],
        books: Books,
        database_state: DatabaseState,
    ) -> None:
        sealed(database)
        books.post(books.gift(people[1], people[2], 20))
        sealed(database)
        held = dict(zip([each.id for each in people], books.coins(*people), strict=True))
        closed: Counter[int] = Counter()
        for row in database_state.rows("checkpoint_balances"):
            closed[row["coin_account_id"]] += row["delta"]
        assert {account: closed[account] for account in held} == held
        assert sum(closed.values()) == 0

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE transfers SET amount = amount + 1 WHERE kind = 1",
            "UPDATE transfers SET created_at = created_at + interval '1 second'",
            "UPDATE transfers SET request_id = gen_random_uuid()",
            "UPDATE gifts SET description = 'a tulip'",
            "UPDATE gifts SET host_id = host_id + 1",
            "DELETE FROM transfers WHERE kind = 1",
            "UPDATE ledger_checkpoints SET sha256 = sha256(sha256)",
            "UPDATE ledger_checkpoints SET transfers = transfers + 1",
            "UPDATE ledger_checkpoints SET amount_sum = amount_sum + 1",
            "UPDATE checkpoint_balances SET delta = delta + 1 WHERE delta > 0",
            "DELETE FROM checkpoint_balances WHERE delta > 0",
            "UPDATE ledger_checkpoints SET previous_sha256 = sha256",
        ],
    )
    def test_what_was_sealed_cannot_be_changed_unseen(
        self, statement: str, database: Database, people: list[CoinAccount]
    ) -> None:
        sealed(database)
        with spoiled(database, statement) as checks:
            assert NAMES[-1] in checks(since_seal=False)

    def test_a_daily_audit_finds_what_is_new_and_wrong(
        self, database: Database, people: list[CoinAccount], books: Books
    ) -> None:
        sealed(database)
        books.post(books.gift(people[1], people[2], 20))
        newest = "(SELECT max(id) FROM transfers)"
        with spoiled(database, f"UPDATE transfers SET amount = 21 WHERE id = {newest}") as checks:
            assert "balances that differ from the history" in checks(since_seal=True)
        with spoiled(database, "UPDATE coin_slots SET amount = amount + 1") as checks:
            assert "balances that differ from the history" in checks(since_seal=True)
        with spoiled(database, "UPDATE ledger_checkpoints SET previous_sha256 = sha256") as checks:
            assert NAMES[-1] in checks(since_seal=True)

    def test_a_transfer_under_way_is_not_missed(
        self, database: Database, people: list[CoinAccount], books: Books
    ) -> None:
        # Its id is smaller than that of one that is committed before it.
        first, second = books.gift(people[1], people[2], 1), books.gift(people[2], people[0], 1)
        with database.engine.connect() as slow:
            post(slow, [first], 0)
            books.post(second, slot=1)
            seals: list[Seal | None] = []
            sealing = threading.Thread(target=lambda: seals.append(seal(database)))
            sealing.start()
            sealing.join(0.3)
            assert sealing.is_alive()
            slow.commit()
            sealing.join(20)
        assert seals[0]
        assert seals[0].transfers == 13
        assert found(database) == []

    def test_writers_go_on_beside_it(self, database: Database, books: Books) -> None:
        people = [books.open({0: 1000}) for _ in range(4)]

        def spend(first: int) -> None:
            for n in range(40):
                one, other = people[(first + n) % 4], people[(first + n + 1) % 4]
                books.post(books.gift(one, other, 1), slot=first)

        def sealing() -> None:
            for _ in range(10):
                seal(database)

        at_once(partial(spend, 0), partial(spend, 1), sealing, sealing)
        seal(database)
        assert found(database) == found(database, since_seal=True) == []

    @pytest.mark.parametrize(
        "table", ["ledger_checkpoints", "checkpoint_balances", "reversal_requests"]
    )
    def test_nobody_changes_them(
        self,
        table: str,
        database: Database,
        people: list[CoinAccount],
        database_state: DatabaseState,
    ) -> None:
        sealed(database)
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(DBAPIError, match="ledger rows are never changed"):
                database_state.execute(statement)


class TestReversals:
    def test_a_gift_goes_back(
        self, books: Books, reversals: Reversals, database: Database, database_state: DatabaseState
    ) -> None:
        ann, ben = books.open({0: 100}), books.open()
        (gift,) = books.post(books.gift(ann, ben, 30), slot=9)
        assert gift.transfer_id
        assert reversals.reverse(gift.transfer_id, reason="by mistake").status is Status.DONE
        assert books.coins(ann, ben) == [100, 0]
        with database_state.unchanged():
            again = reversals.reverse(gift.transfer_id, reason="once more")
        assert again.status is Status.REPLAYED
        assert found(database) == []

    def test_a_refill_goes_back(
        self, books: Books, reversals: Reversals, database: Database
    ) -> None:
        ann = books.open()
        (refill,) = books.post(books.refill(ann, 30))
        assert refill.transfer_id
        assert reversals.reverse(refill.transfer_id, reason="charged back").status is Status.DONE
        assert books.coins(ann) == [0]
        assert found(database) == []

    def test_twenty_at_once_are_one(self, books: Books, reversals: Reversals) -> None:
        ann, ben = books.open({0: 100}), books.open({0: 100})
        (gift,) = books.post(books.gift(ann, ben, 30))
        assert gift.transfer_id
        outcomes = at_once(*[partial(reversals.reverse, gift.transfer_id, reason="x")] * 20)
        statuses = [outcome.status for outcome in outcomes]
        assert sorted(statuses, key=str) == [Status.DONE] + [Status.REPLAYED] * 19
        assert books.coins(ann, ben) == [100, 100]

    def test_what_is_spent_stays_open_until_it_is_covered(
        self, books: Books, reversals: Reversals, database: Database
    ) -> None:
        ann, ben, cat = books.open({0: 100}), books.open(), books.open()
        (gift,) = books.post(books.gift(ann, ben, 30))
        books.post(books.gift(ben, cat, 10))
        assert gift.transfer_id
        assert reversals.reverse(gift.transfer_id, reason="late").status is Status.NO_COINS
        assert books.coins(ann, ben) == [70, 20]
        (finding,) = found(database)
        assert finding.check == "reversals that are open"
        assert finding.detail.startswith(f"transfer {gift.transfer_id} is to be reversed since ")
        assert finding.detail.endswith(": late")
        books.post(books.refill(ben, 10))
        assert reversals.reverse(gift.transfer_id, reason="late").status is Status.DONE
        assert found(database) == []

    def test_what_can_not_be_reversed(self, books: Books, reversals: Reversals) -> None:
        ann, ben = books.open({0: 100}), books.open()
        (gift,) = books.post(books.gift(ann, ben, 30))
        assert gift.transfer_id
        back = reversals.reverse(gift.transfer_id, reason="x")
        assert back.transfer_id
        with pytest.raises(LookupError, match="is a reversal itself"):
            reversals.reverse(back.transfer_id, reason="x")
        with pytest.raises(LookupError, match="there is no transfer"):
            reversals.reverse(back.transfer_id + 1, reason="x")
