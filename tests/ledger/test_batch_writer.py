"""The ledger's writer: every transfer once, whatever breaks, and everybody told the truth."""

import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from livebackend.core.errors import LedgerBusy, Unavailable
from livebackend.database.engine import Database
from livebackend.ledger import batch_writer as ledger_writer
from livebackend.ledger import posting as ledger
from livebackend.ledger.batch_writer import LedgerWriter
from livebackend.ledger.transfers import CoinAccount, Outcome, Payment, Status, Transfer
from tests.support.api import Person, at_once
from tests.support.application import INI
from tests.support.database_state import DatabaseState
from tests.support.ledger_helpers import Books
from tests.support.servers import serving
from tests.support.statements import before_each_statement, statements_noted

DONE, REPLAYED = Status.DONE, Status.REPLAYED
CONFLICT, NO_COINS = Status.CONFLICT, Status.NO_COINS


@pytest.fixture
def books(database: Database) -> Iterator[Books]:
    """Books that are right when a test is over."""
    books = Books(database)
    yield books
    assert books.faults() == []


@pytest.fixture
def new_writer(database: Database) -> Iterator[Callable[..., LedgerWriter]]:
    """Makes writers, and closes them."""
    writers = []

    def make(**options: Any) -> LedgerWriter:
        writer = LedgerWriter(database, **{"number": 0, **options})
        writers.append(writer)
        return writer

    yield make
    for writer in writers:
        writer.close()


@pytest.fixture
def writer(new_writer: Callable[..., LedgerWriter]) -> LedgerWriter:
    return new_writer()


def submit(writer: LedgerWriter, transfer: Transfer, *, wait_s: float = 20) -> Outcome:
    return writer.submit(transfer, deadline=time.monotonic() + wait_s)


def submit_all(writer: LedgerWriter, transfers: Sequence[Transfer]) -> list[Status]:
    """Each in a thread, all at once."""
    outcomes = at_once(*[partial(submit, writer, transfer) for transfer in transfers])
    return [outcome.status for outcome in outcomes]


class Held:
    """The writer's work, stopped before each batch until it is let go; and what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.taken = threading.Event()
        self.batches: list[int] = []
        post = ledger.post

        def held(connection: Connection, transfers: Sequence[Transfer], slot: int) -> list[Outcome]:
            self.batches.append(len(transfers))
            self.taken.set()
            assert self.go.wait(20)
            return post(connection, transfers, slot)

        monkeypatch.setattr(ledger_writer, "post", held)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.go.set()


@contextmanager
def beside(*calls: Callable[[], Any]) -> Iterator[list[Any]]:
    """Makes the calls in threads while the block runs; the list gets their results, or errors."""
    found: list[Any] = [None] * len(calls)

    def run(index: int, call: Callable[[], Any]) -> None:
        try:
            found[index] = call()
        except (LedgerBusy, Unavailable, DBAPIError, LookupError) as error:
            found[index] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    yield found
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive(), "a call hangs"


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it never came so far")


def queued(writer: LedgerWriter) -> int:
    return writer.queue_length


# Batches.


def test_a_transfer_is_done(writer: LedgerWriter, books: Books) -> None:
    ann, ben = books.open({0: 100}), books.open()
    assert submit(writer, books.gift(ann, ben, 30)).status is DONE
    assert books.coins(ann, ben) == [70, 30]


def test_while_a_batch_is_posted_the_next_one_gathers(
    writer: LedgerWriter, books: Books, held: Held
) -> None:
    people, host = [books.open({0: 10}) for _ in range(20)], books.open()
    first, *others = [partial(submit, writer, books.gift(person, host, 1)) for person in people]
    with beside(first):
        assert held.taken.wait(20)
        with beside(*others):
            until(lambda: queued(writer) == 19)
            held.go.set()
    assert held.batches == [1, 19]
    assert books.coins(host) == [20]


def test_a_batch_has_a_limit(
    new_writer: Callable[..., LedgerWriter], books: Books, held: Held
) -> None:
    writer = new_writer(batch_max=4)
    people, host = [books.open({0: 10}) for _ in range(11)], books.open()
    with beside(*[partial(submit, writer, books.gift(each, host, 1)) for each in people]):
        until(lambda: held.batches != [] and queued(writer) + held.batches[0] == 11)
        held.go.set()
    assert max(held.batches) == 4
    assert books.coins(host) == [11]


def test_nobody_is_told_before_the_commit(
    writer: LedgerWriter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = books.open({0: 100}), books.open()
    told_at: list[float] = []
    committed_at: list[float] = []

    def slow_commit(connection: Connection) -> None:
        if connection.engine is not books.database.engine:
            time.sleep(0.3)
            committed_at.append(time.monotonic())

    def call() -> None:
        submit(writer, books.gift(ann, ben, 1))
        told_at.append(time.monotonic())

    event.listen(Engine, "commit", slow_commit)
    try:
        at_once(*[call] * 8)
    finally:
        event.remove(Engine, "commit", slow_commit)
    assert len(told_at) == 8
    assert min(told_at) >= min(committed_at)


def test_a_batch_that_moves_nothing_leaves_nothing(
    writer: LedgerWriter, books: Books, database_state: DatabaseState
) -> None:
    ann, ben = books.open({0: 10}), books.open()
    with database_state.unchanged():
        assert submit(writer, books.gift(ann, ben, 11)) == Outcome(NO_COINS)


def test_replay_posted_with_a_refusal_leaves_no_empty_slot(
    writer: LedgerWriter, books: Books
) -> None:
    ann, ben, cat = books.open({0: 100}), books.open(), books.open()
    gift = books.gift(ann, ben, 30)
    submit(writer, gift)
    too_large = books.gift(ann, cat, 100)
    assert _queued_in_order(writer, [gift, too_large], books) == [REPLAYED, NO_COINS]
    assert books.slots(cat) == {0: 0}


_drawn = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(1, 2),
        st.integers(1, 40),
        st.sampled_from([None, None, "a", "b"]),
    ),
    min_size=1,
    max_size=10,
)


@pytest.mark.processes
@given(drawn=_drawn)
@settings(max_examples=60)
def test_a_queue_is_its_transfers_one_by_one(
    drawn: list[tuple[int, int, int, str | None]], database: Database, database_state: DatabaseState
) -> None:
    """The same calls, once queued behind a held batch and once alone: same outcomes, same coins."""
    found = []
    for together in (True, False):
        database_state.empty()
        books = Books(database)
        people = [books.open({0: 20, 3: 30}) for _ in range(3)]
        transfers = [
            books.gift(people[one], people[(one + step) % 3], coins, key)
            for one, step, coins, key in drawn
        ]
        writer = LedgerWriter(database, number=0)
        if together:
            statuses = _queued_in_order(writer, transfers, books)
        else:
            statuses = [submit(writer, transfer).status for transfer in transfers]
        writer.close()
        assert books.faults() == []
        found.append((statuses, books.coins(*people)))
    assert found[0] == found[1]


def _queued_in_order(
    writer: LedgerWriter, transfers: Sequence[Transfer], books: Books
) -> list[Status]:
    """Hands transfers in, in this order, while the writer waits for a lock of ours."""
    plug = books.open()
    with books.database.engine.begin() as connection:
        lock = "SELECT 1 FROM coin_slots WHERE coin_account_id = :id FOR NO KEY UPDATE"
        connection.execute(text(lock), {"id": plug.id})
        with beside(partial(submit, writer, books.refill(plug, 1))):
            until(lambda: writer.is_running and queued(writer) == 0)
            calls = [_started(writer, transfer) for transfer in transfers]
            connection.rollback()
    return [call() for call in calls]


def _started(writer: LedgerWriter, transfer: Transfer) -> Callable[[], Status]:
    """Hands a transfer in from a thread, and returns when it is queued."""
    before, found = queued(writer), []
    thread = threading.Thread(target=lambda: found.append(submit(writer, transfer)))
    thread.start()
    until(lambda: queued(writer) == before + 1)

    def result() -> Status:
        thread.join(20)
        return found[0].status

    return result


# Giving up.


def test_whoever_gives_up_before_it_was_taken_moved_nothing(
    writer: LedgerWriter, books: Books, held: Held
) -> None:
    ann, ben = books.open({0: 100}), books.open()
    late = books.gift(ann, ben, 30)
    with beside(partial(submit, writer, books.gift(ann, ben, 1))) as first:
        assert held.taken.wait(20)
        started = time.monotonic()
        with pytest.raises(LedgerBusy):
            submit(writer, late, wait_s=0.2)
        assert 0.2 <= time.monotonic() - started < 2
        assert queued(writer) == 0
        held.go.set()
    assert first[0].status is DONE
    writer.close()
    assert books.coins(ann, ben) == [99, 1]
    assert held.batches == [1]


def test_whoever_gives_up_after_it_was_taken_does_not_know(
    writer: LedgerWriter, books: Books, held: Held
) -> None:
    ann, ben = books.open({0: 100}), books.open()
    gift = books.gift(ann, ben, 30)
    with pytest.raises(Unavailable) as caught:
        submit(writer, gift, wait_s=0.2)
    assert caught.value.outcome_unknown
    held.go.set()
    # It was done, and the same request says so.
    assert submit(writer, gift).status is REPLAYED
    assert books.coins(ann, ben) == [70, 30]


def test_a_full_queue_takes_no_more(
    new_writer: Callable[..., LedgerWriter], books: Books, held: Held, database_state: DatabaseState
) -> None:
    writer = new_writer(queue_max=2)
    ann, ben = books.open({0: 100}), books.open()
    with beside(partial(submit, writer, books.gift(ann, ben, 1))):
        assert held.taken.wait(20)
        with beside(*[partial(submit, writer, books.gift(ann, ben, 1)) for _ in range(2)]):
            until(lambda: queued(writer) == 2)
            with pytest.raises(Unavailable) as caught:
                submit(writer, books.gift(ann, ben, 50))
            assert not caught.value.outcome_unknown
            held.go.set()
    assert books.coins(ann, ben) == [97, 3]


def test_closing_posts_what_is_queued_and_takes_no_more(
    writer: LedgerWriter, books: Books, held: Held
) -> None:
    ann, ben = books.open({0: 100}), books.open()
    gifts = [books.gift(ann, ben, 1) for _ in range(6)]
    with beside(*[partial(submit, writer, gift) for gift in gifts]) as found:
        until(lambda: held.batches != [] and queued(writer) + held.batches[0] == 6)
        with beside(writer.close):
            until(lambda: writer.is_closed)
            with pytest.raises(Unavailable):
                submit(writer, books.gift(ann, ben, 50))
            held.go.set()
    assert [outcome.status for outcome in found] == [DONE] * 6
    assert books.coins(ann, ben) == [94, 6]
    writer.close()


def test_closing_one_that_was_never_used_is_nothing(writer: LedgerWriter, books: Books) -> None:
    writer.close()
    with pytest.raises(Unavailable):
        submit(writer, books.refill(books.open(), 1))


# Faults at every statement of a batch.

FAULTS = ["error", "drop", "sleep"]
# As many as a batch has that does everything.
STATEMENTS = 8


class Saboteur:
    """Does something to a writer's connection, once, when it is at a certain statement."""

    def __init__(self, fault: str, at: int, not_of: Engine) -> None:
        self.fault, self.at, self.not_of = fault, at, not_of
        self.seen = 0
        self.done = False

    def __call__(self, connection: Connection, statement: str, parameters: Any) -> str | None:
        if connection.engine is self.not_of or self.done:
            return None
        self.seen += 1
        if self.seen - 1 < self.at:
            return None
        self.done = True
        if self.fault == "error":
            return "SELECT 1 / 0"
        if self.fault == "drop":
            cut(self.not_of, connection.connection.dbapi_connection)
        if self.fault == "sleep":
            time.sleep(0.3)
        return None


def cut(engine: Engine, connection: Any) -> None:
    """Ends a connection from the server's side, and waits until it has ended."""
    process = connection.info.backend_pid
    with engine.connect() as other:
        other.execute(text("SELECT pg_terminate_backend(:process, 5000)"), {"process": process})


@contextmanager
def sabotaged(fault: str, at: int, not_of: Engine) -> Iterator[Saboteur]:
    saboteur = Saboteur(fault, at, not_of)
    with before_each_statement(saboteur):
        yield saboteur


def _everything(books: Books) -> tuple[list[Transfer], list[CoinAccount], list[int]]:
    """A batch that does all that a batch can do, who takes part, and what they have then."""
    ann, ben, cat = books.open({0: 5, 2: 95}), books.open({0: 100}), books.open()
    order = books.order(cat, 10)
    transfers = [books.gift(ann, ben, 60), books.gift(ben, cat, 20), books.refill(ann, 7), order]
    return transfers, [ann, ben, cat], [47, 140, 30]


def test_a_batch_has_so_many_statements(books: Books) -> None:
    transfers, people, coins = _everything(books)
    with books.database.engine.begin() as connection, statements_noted() as counted:
        ledger.post(connection, transfers, 0)
    assert len(counted) == STATEMENTS
    assert books.coins(*people) == coins


@pytest.mark.parametrize("at", range(STATEMENTS))
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_breaks_at_a_statement_everything_is_done_once(
    fault: str, at: int, writer: LedgerWriter, books: Books, held: Held
) -> None:
    transfers, people, coins = _everything(books)
    plug = books.open({0: 1})
    with beside(partial(submit, writer, books.refill(plug, 1))):
        assert held.taken.wait(20)
        with beside(*[partial(submit, writer, each) for each in transfers]) as found:
            until(lambda: queued(writer) == len(transfers))
            with sabotaged(fault, at + STATEMENTS_OF_A_REFILL, books.database.engine) as saboteur:
                held.go.set()
                until(lambda: all(found))
    assert saboteur.done
    assert [outcome.status for outcome in found] == [DONE] * 4
    assert books.coins(*people) == coins
    # The same ids again: the same result, and nothing moves.
    assert submit_all(writer, transfers) == [REPLAYED] * 4
    assert books.coins(*people) == coins


STATEMENTS_OF_A_REFILL = 6


@contextmanager
def broken_commits(
    monkeypatch: pytest.MonkeyPatch, break_it: Callable[[Any], None]
) -> Iterator[list[Any]]:
    """The writer's first commit is done by `break_it`, after which the client sees it fail."""
    broken: list[Any] = []

    def sabotaged_database(*arguments: Any, **options: Any) -> Database:
        made = Database(*arguments, **options)
        commit = made.engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            if broken:
                commit(connection)
                return
            broken.append(connection)
            break_it(connection)
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(made.engine.dialect, "do_commit", do_commit)
        return made

    monkeypatch.setattr(ledger_writer, "Database", sabotaged_database)
    yield broken


def test_a_connection_lost_after_the_commit_was_sent(
    writer: LedgerWriter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfers, people, coins = _everything(books)

    def committed_and_cut(connection: Any) -> None:
        connection.commit()
        connection.driver_connection.close()

    with broken_commits(monkeypatch, committed_and_cut) as broken:
        first = submit(writer, transfers[0])
        assert broken
    # The books had it already, and that is what the caller is told.
    assert first.status is REPLAYED
    assert submit_all(writer, transfers[1:]) == [DONE] * 3
    assert books.coins(*people) == coins
    assert submit_all(writer, transfers) == [REPLAYED] * 4


def test_a_connection_lost_before_the_commit_arrived(
    writer: LedgerWriter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = books.open({0: 100}), books.open()

    def cut_only(connection: Any) -> None:
        connection.driver_connection.close()

    with broken_commits(monkeypatch, cut_only):
        assert submit(writer, books.gift(ann, ben, 30)).status is DONE
    assert books.coins(ann, ben) == [70, 30]


def commit_after(connection: Any, *, wait_s: float) -> None:
    """Has the server commit later, on its own: the client is gone by then.

    Source: PostgreSQL's protocol, a simple query. Nobody reads the answer.
    """
    query = f"SELECT pg_sleep({wait_s}); COMMIT\0".encode()
    os.write(
        connection.driver_connection.fileno(), b"Q" + struct.pack("!I", len(query) + 4) + query
    )


def test_a_commit_that_is_still_under_way_is_waited_for(
    writer: LedgerWriter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = books.open({0: 100}), books.open()
    with broken_commits(monkeypatch, partial(commit_after, wait_s=0.4)):
        assert submit(writer, books.gift(ann, ben, 30)).status is REPLAYED
    assert books.coins(ann, ben) == [70, 30]


@pytest.mark.processes
def test_a_commit_that_may_have_been_done_is_never_called_undone(
    writer: LedgerWriter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first commit takes so long that the second try is tired of waiting for its locks.
    ann, ben = books.open({0: 100}), books.open()
    gift = books.gift(ann, ben, 30)
    with (
        broken_commits(monkeypatch, partial(commit_after, wait_s=1.6)),
        pytest.raises(Unavailable) as caught,
    ):
        submit(writer, gift)
    assert caught.value.outcome_unknown
    assert submit(writer, gift).status is REPLAYED
    assert books.coins(ann, ben) == [70, 30]


def test_a_database_that_stays_away_is_given_up_and_nothing_moved(
    books: Books, new_database: Callable[[str], str], worker_id: str, database: Database
) -> None:
    gone = Database(database.engine.url.set(database=f"nobody_made_{worker_id}"))
    writer = LedgerWriter(gone, number=0)
    ann = books.open()
    with beside(partial(submit, writer, books.refill(ann, 1), wait_s=0.5)) as found:
        pass
    assert isinstance(found[0], Unavailable)
    writer.close()
    gone.close()
    assert books.coins(ann) == [0]


# One by one.


def test_a_request_that_can_not_be_posted_fails_alone(
    writer: LedgerWriter, books: Books, held: Held
) -> None:
    ann, ben = books.open({0: 100}), books.open()
    nobody = CoinAccount(ben.id + 1_000_000)
    poisoned = [
        books.gift(ann, nobody, 1),  # a foreign key
        replace(books.refill(ben, 1), payment=Payment("direct", "unknown", "x")),  # no such order
        replace(books.gift(ann, ben, 1), actor=nobody.id, debit=nobody),  # no coins of his own
        books.refill(ben, 2**63 - 1),  # more than a balance can hold
    ]
    good = [books.gift(ann, ben, 10), books.refill(ann, 5), books.gift(ann, ben, 20)]
    batch = [good[0], *poisoned[:2], good[1], *poisoned[2:], good[2]]
    with beside(partial(submit, writer, books.refill(ben, 1))):
        assert held.taken.wait(20)
        with beside(*[partial(submit, writer, each) for each in batch]) as found:
            until(lambda: queued(writer) == len(batch))
            held.go.set()
    outcomes = dict(zip([each.request_id for each in batch], found, strict=True))
    assert [outcomes[each.request_id].status for each in good] == [DONE] * 3
    errors = [outcomes[each.request_id] for each in poisoned]
    assert isinstance(errors[0], IntegrityError)
    assert isinstance(errors[1], LookupError)
    assert isinstance(errors[2], LookupError)
    assert errors[3] == Outcome(Status.BALANCE_LIMIT)
    assert books.coins(ann, ben) == [75, 31]


@pytest.mark.processes
def test_a_lock_that_somebody_holds_fails_those_who_need_it_alone(
    writer: LedgerWriter, books: Books, held: Held
) -> None:
    ann, ben, cat = books.open({0: 100}), books.open({0: 100}), books.open()
    lock = text("SELECT 1 FROM coin_slots WHERE coin_account_id = :id FOR NO KEY UPDATE")
    gifts = [books.gift(ann, cat, 1), books.gift(ben, cat, 1)]
    with books.database.engine.connect() as connection:
        connection.execute(lock, {"id": ann.id})
        with beside(partial(submit, writer, books.refill(cat, 1))):
            assert held.taken.wait(20)
            with beside(*[partial(submit, writer, gift, wait_s=4) for gift in gifts]) as found:
                until(lambda: queued(writer) == 2)
                held.go.set()
    assert isinstance(found[0], DBAPIError)
    assert found[1].status is DONE
    assert books.coins(ann, ben, cat) == [100, 99, 2]


def test_an_error_of_ours_leaves_the_writer_at_work(
    writer: LedgerWriter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = books.open()

    def broken(*_: Any) -> list[Outcome]:
        raise LookupError("an error of ours")

    with monkeypatch.context() as patch:
        patch.setattr(ledger_writer, "post", broken)
        with pytest.raises(LookupError, match="an error of ours"):
            submit(writer, books.refill(ann, 1))
    assert submit(writer, books.refill(ann, 1)).status is DONE


# Its own thread and connection.


def test_requests_that_hold_every_connection_do_not_starve_it(
    database_url: str, books: Books
) -> None:
    small = Database(database_url, pool_size=1, pool_wait_s=0.1)
    writer = LedgerWriter(small, number=0)
    ann = books.open()
    with small.engine.connect():
        assert submit(writer, books.refill(ann, 1)).status is DONE
    writer.close()
    small.close()


def test_writer_starts_with_the_first_transfer(writer: LedgerWriter, books: Books) -> None:
    assert not writer.is_running
    submit(writer, books.refill(books.open(), 1))
    assert writer.is_running


@pytest.mark.parametrize("number", [0, 7, 15])
def test_its_number_is_where_credits_land(
    number: int, new_writer: Callable[..., LedgerWriter], books: Books
) -> None:
    ann = books.open()
    submit(new_writer(number=number), books.refill(ann, 9))
    assert books.slots(ann) == {0: 0, 1 + number: 9}


def test_two_writers_with_one_id_do_it_once(
    new_writer: Callable[..., LedgerWriter], books: Books
) -> None:
    writers = [new_writer(number=number) for number in (0, 1)]
    ann, ben = books.open({0: 1000}), books.open()
    for key in range(20):
        gift = books.gift(ann, ben, 10, str(key))
        outcomes = at_once(*[partial(submit, writers[n % 2], gift) for n in range(8)])
        statuses = [outcome.status for outcome in outcomes]
        assert sorted(statuses, key=str) == [DONE] + [REPLAYED] * 7
    assert books.coins(ben) == [200]


@pytest.mark.processes
def test_a_server_that_is_told_to_end_answers_what_it_has_taken(
    database_url: str,
    database: Database,
    tmp_path: Path,
    ann: Person,
    ben: Person,
    database_state: DatabaseState,
) -> None:
    ann.refill("100")
    lock = text("SELECT 1 FROM coin_slots WHERE slot = 0 FOR NO KEY UPDATE")
    form = {"object": ben.phone, "value": "30", "description": "a rose", "send_gift": "1"}
    with serving(INI, tmp_path, {"database.url": database_url}) as server:
        call = partial(requests.post, f"{server.address}/golden", timeout=10)
        with database.engine.begin() as connection:
            connection.execute(lock)
            with beside(partial(call, data={**form, "token": ann.token})) as found:
                until(lambda: is_waited_for(database, connection))
                os.kill(server.pid, signal.SIGINT)
                time.sleep(0.2)
                connection.rollback()
    assert found[0].json() == {"result": "0000", "message": None}
    assert (database_state.coins(ann), database_state.coins(ben)) == (70, 30)


def is_waited_for(database: Database, connection: Connection) -> bool:
    process = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE :me = ANY(pg_blocking_pids(pid))")
    with database.engine.connect() as looker:
        return bool(looker.execute(waiting, {"me": process}).scalar_one())
