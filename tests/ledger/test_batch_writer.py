"""Batch writer: batches, timeouts, failures at each statement, correct outcomes."""

import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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

from livebackend.core.errors import LedgerBusy, ServiceUnavailable
from livebackend.database.engine import Database
from livebackend.ledger import batch_writer, posting
from livebackend.ledger.batch_writer import LedgerBatchWriter
from livebackend.ledger.transfers import (
    CoinAccount,
    Payment,
    Transfer,
    TransferOutcome,
    TransferStatus,
)
from tests.support.api import UserClient, run_concurrently
from tests.support.application import DEVELOPMENT_INI
from tests.support.database_state import DatabaseState
from tests.support.ledger_helpers import LedgerFixture
from tests.support.servers import running_server
from tests.support.statements import before_each_statement, record_statements
from tests.support.waiting import wait_until

DONE, REPLAYED = TransferStatus.DONE, TransferStatus.REPLAYED
CONFLICT, INSUFFICIENT_COINS = TransferStatus.CONFLICT, TransferStatus.INSUFFICIENT_COINS
WAIT_S = 10


@pytest.fixture
def ledger(database: Database) -> Iterator[LedgerFixture]:
    """A ledger in which the audit must find no errors after the test."""
    ledger = LedgerFixture(database)
    yield ledger
    assert ledger.audit_errors() == []


@pytest.fixture
def new_writer(database: Database) -> Iterator[Callable[..., LedgerBatchWriter]]:
    """A function that creates writers; they are closed after the test."""
    writers = []

    def create(**options: Any) -> LedgerBatchWriter:
        writer = LedgerBatchWriter(database, **{"writer_number": 0, **options})
        writers.append(writer)
        return writer

    yield create
    for writer in writers:
        writer.close()


@pytest.fixture
def writer(new_writer: Callable[..., LedgerBatchWriter]) -> LedgerBatchWriter:
    return new_writer()


def submit(writer: LedgerBatchWriter, transfer: Transfer, *, wait_s: float = 20) -> TransferOutcome:
    return writer.submit(transfer, deadline=time.monotonic() + wait_s)


def submit_all(writer: LedgerBatchWriter, transfers: Sequence[Transfer]) -> list[TransferStatus]:
    """Submit each transfer in a separate thread; return the statuses in order."""
    outcomes = run_concurrently(*[partial(submit, writer, transfer) for transfer in transfers])
    return [outcome.status for outcome in outcomes]


class PausedPosting:
    """Blocks the writer before each batch until `resume` is set; records batch sizes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.resume = threading.Event()
        self.reached = threading.Event()
        self.batch_sizes: list[int] = []
        original_post = posting.post

        def paused_post(
            connection: Connection, transfers: Sequence[Transfer], slot: int, **options: Any
        ) -> list[TransferOutcome]:
            self.batch_sizes.append(len(transfers))
            self.reached.set()
            assert self.resume.wait(20)
            return original_post(connection, transfers, slot, **options)

        monkeypatch.setattr(batch_writer, "post", paused_post)


@pytest.fixture
def paused_posting(monkeypatch: pytest.MonkeyPatch) -> Iterator[PausedPosting]:
    paused_posting = PausedPosting(monkeypatch)
    yield paused_posting
    paused_posting.resume.set()


@contextmanager
def run_in_background(*calls: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run calls in threads during the `with` block; yield their results or errors."""
    results: list[Any] = [None] * len(calls)

    def run(index: int, call: Callable[[], Any]) -> None:
        try:
            results[index] = call()
        except (LedgerBusy, ServiceUnavailable, DBAPIError, LookupError) as error:
            results[index] = error

    threads = [
        threading.Thread(target=run, args=index_and_call) for index_and_call in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    yield results
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive(), "a call did not return within 30 s"


def test_submitted_gift_moves_coins(writer: LedgerBatchWriter, ledger: LedgerFixture) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    assert submit(writer, ledger.gift(ann, ben, 30)).status is DONE
    assert ledger.coins(ann, ben) == [70, 30]


def test_transfers_submitted_during_a_batch_form_the_next_batch(
    writer: LedgerBatchWriter, ledger: LedgerFixture, paused_posting: PausedPosting
) -> None:
    givers, host = [ledger.open({0: 10}) for _ in range(20)], ledger.open()
    first_call, *other_calls = [
        partial(submit, writer, ledger.gift(giver, host, 1)) for giver in givers
    ]
    with run_in_background(first_call):
        assert paused_posting.reached.wait(20)
        with run_in_background(*other_calls):
            wait_until(lambda: writer.queue_length == 19, WAIT_S, "19 queued transfers")
            paused_posting.resume.set()
    assert paused_posting.batch_sizes == [1, 19]
    assert ledger.coins(host) == [20]


def test_batch_size_is_limited(
    new_writer: Callable[..., LedgerBatchWriter],
    ledger: LedgerFixture,
    paused_posting: PausedPosting,
) -> None:
    writer = new_writer(max_batch_size=4)
    givers, host = [ledger.open({0: 10}) for _ in range(11)], ledger.open()
    with run_in_background(
        *[partial(submit, writer, ledger.gift(giver, host, 1)) for giver in givers]
    ):
        wait_until(
            lambda: (
                paused_posting.batch_sizes != []
                and writer.queue_length + paused_posting.batch_sizes[0] == 11
            ),
            WAIT_S,
            "11 submitted transfers",
        )
        paused_posting.resume.set()
    assert max(paused_posting.batch_sizes) == 4
    assert ledger.coins(host) == [11]


def test_outcome_is_returned_after_the_commit(
    writer: LedgerBatchWriter, ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    returned_at: list[float] = []
    committed_at: list[float] = []

    def slow_commit(connection: Connection) -> None:
        if connection.engine is not ledger.database.engine:
            time.sleep(0.3)
            committed_at.append(time.monotonic())

    def submit_gift() -> None:
        submit(writer, ledger.gift(ann, ben, 1))
        returned_at.append(time.monotonic())

    event.listen(Engine, "commit", slow_commit)
    try:
        run_concurrently(*[submit_gift] * 8)
    finally:
        event.remove(Engine, "commit", slow_commit)
    assert len(returned_at) == 8
    assert min(returned_at) >= min(committed_at)


def test_batch_of_rejected_transfers_changes_no_row(
    writer: LedgerBatchWriter, ledger: LedgerFixture, database_state: DatabaseState
) -> None:
    ann, ben = ledger.open({0: 10}), ledger.open()
    with database_state.assert_unchanged():
        assert submit(writer, ledger.gift(ann, ben, 11)) == TransferOutcome(INSUFFICIENT_COINS)


def test_batch_of_a_retry_and_a_rejected_transfer_inserts_no_slot(
    writer: LedgerBatchWriter, ledger: LedgerFixture
) -> None:
    ann, ben, cat = ledger.open({0: 100}), ledger.open(), ledger.open()
    gift = ledger.gift(ann, ben, 30)
    submit(writer, gift)
    too_large = ledger.gift(ann, cat, 100)
    assert _post_as_one_batch(writer, [gift, too_large], ledger) == [REPLAYED, INSUFFICIENT_COINS]
    assert ledger.slots(cat) == {0: 0}


# Each gift: giver's index, distance from it to the recipient's index, coins, request key.
_gift_lists = st.lists(
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
@given(gifts=_gift_lists)
@settings(max_examples=60)
def test_batch_has_the_same_result_as_its_transfers_one_by_one(
    gifts: list[tuple[int, int, int, str | None]], database: Database, database_state: DatabaseState
) -> None:
    results = []
    for is_one_batch in (True, False):
        database_state.empty()
        ledger = LedgerFixture(database)
        accounts = [ledger.open({0: 20, 3: 30}) for _ in range(3)]
        transfers = [
            ledger.gift(accounts[giver], accounts[(giver + distance) % 3], coins, key)
            for giver, distance, coins, key in gifts
        ]
        writer = LedgerBatchWriter(database, writer_number=0)
        if is_one_batch:
            statuses = _post_as_one_batch(writer, transfers, ledger)
        else:
            statuses = [submit(writer, transfer).status for transfer in transfers]
        writer.close()
        assert ledger.audit_errors() == []
        results.append((statuses, ledger.coins(*accounts)))
    assert results[0] == results[1]


def _post_as_one_batch(
    writer: LedgerBatchWriter, transfers: Sequence[Transfer], ledger: LedgerFixture
) -> list[TransferStatus]:
    """Post the transfers as one batch, in order; return their statuses.

    A lock blocks the writer until all transfers are in the queue.
    """
    blocked_account = ledger.open()
    with ledger.database.engine.begin() as connection:
        lock_statement = "SELECT 1 FROM coin_slots WHERE coin_account_id = :id FOR NO KEY UPDATE"
        connection.execute(text(lock_statement), {"id": blocked_account.id})
        with run_in_background(partial(submit, writer, ledger.refill(blocked_account, 1))):
            wait_until(
                lambda: writer.is_running and writer.queue_length == 0,
                WAIT_S,
                "a running writer with an empty queue",
            )
            results = [_submit_in_thread(writer, transfer) for transfer in transfers]
            connection.rollback()
    return [result() for result in results]


def _submit_in_thread(
    writer: LedgerBatchWriter, transfer: Transfer
) -> Callable[[], TransferStatus]:
    """Submit a transfer in a new thread, and wait until it is in the queue.

    Returns a function that waits for the transfer's status and returns it.
    """
    queue_length_before, outcomes = writer.queue_length, []
    thread = threading.Thread(target=lambda: outcomes.append(submit(writer, transfer)))
    thread.start()
    wait_until(
        lambda: writer.queue_length == queue_length_before + 1, WAIT_S, "one more queued transfer"
    )

    def status() -> TransferStatus:
        thread.join(20)
        return outcomes[0].status

    return status


def test_transfer_that_times_out_in_the_queue_moves_no_coins(
    writer: LedgerBatchWriter, ledger: LedgerFixture, paused_posting: PausedPosting
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    late_gift = ledger.gift(ann, ben, 30)
    with run_in_background(partial(submit, writer, ledger.gift(ann, ben, 1))) as first_outcomes:
        assert paused_posting.reached.wait(20)
        started_at = time.monotonic()
        with pytest.raises(LedgerBusy):
            submit(writer, late_gift, wait_s=0.2)
        assert 0.2 <= time.monotonic() - started_at < 2
        assert writer.queue_length == 0
        paused_posting.resume.set()
    assert first_outcomes[0].status is DONE
    writer.close()
    assert ledger.coins(ann, ben) == [99, 1]
    assert paused_posting.batch_sizes == [1]


def test_transfer_that_times_out_in_a_batch_has_an_unknown_outcome(
    writer: LedgerBatchWriter, ledger: LedgerFixture, paused_posting: PausedPosting
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    gift = ledger.gift(ann, ben, 30)
    with pytest.raises(ServiceUnavailable) as caught:
        submit(writer, gift, wait_s=0.2)
    assert caught.value.outcome_unknown
    paused_posting.resume.set()
    # The writer posts the gift after the timeout, so this retry moves no coins.
    assert submit(writer, gift).status is REPLAYED
    assert ledger.coins(ann, ben) == [70, 30]


def test_full_queue_rejects_transfers(
    new_writer: Callable[..., LedgerBatchWriter],
    ledger: LedgerFixture,
    paused_posting: PausedPosting,
    database_state: DatabaseState,
) -> None:
    writer = new_writer(max_queue_length=2)
    ann, ben = ledger.open({0: 100}), ledger.open()
    with run_in_background(partial(submit, writer, ledger.gift(ann, ben, 1))):
        assert paused_posting.reached.wait(20)
        with run_in_background(
            *[partial(submit, writer, ledger.gift(ann, ben, 1)) for _ in range(2)]
        ):
            wait_until(lambda: writer.queue_length == 2, WAIT_S, "2 queued transfers")
            with pytest.raises(ServiceUnavailable) as caught:
                submit(writer, ledger.gift(ann, ben, 50))
            assert not caught.value.outcome_unknown
            paused_posting.resume.set()
    assert ledger.coins(ann, ben) == [97, 3]


def test_closing_a_writer_posts_queued_transfers_and_rejects_new_transfers(
    writer: LedgerBatchWriter, ledger: LedgerFixture, paused_posting: PausedPosting
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    gifts = [ledger.gift(ann, ben, 1) for _ in range(6)]
    with run_in_background(*[partial(submit, writer, gift) for gift in gifts]) as outcomes:
        wait_until(
            lambda: (
                paused_posting.batch_sizes != []
                and writer.queue_length + paused_posting.batch_sizes[0] == 6
            ),
            WAIT_S,
            "6 submitted transfers",
        )
        with run_in_background(writer.close):
            wait_until(lambda: writer.is_closed, WAIT_S, "the writer to be closed")
            with pytest.raises(ServiceUnavailable):
                submit(writer, ledger.gift(ann, ben, 50))
            paused_posting.resume.set()
    assert [outcome.status for outcome in outcomes] == [DONE] * 6
    assert ledger.coins(ann, ben) == [94, 6]
    writer.close()


def test_unused_writer_can_be_closed(writer: LedgerBatchWriter, ledger: LedgerFixture) -> None:
    writer.close()
    with pytest.raises(ServiceUnavailable):
        submit(writer, ledger.refill(ledger.open(), 1))


# Kinds of failures that a FailureInjector can cause before a statement.
FAILURES = ["error", "connection lost", "delay"]
# Number of statements that post the transfers of _complete_batch().
BATCH_STATEMENT_COUNT = 6


class FailureInjector:
    """Causes one failure before the writer's statement `index`, counted from 0."""

    def __init__(self, failure: str, index: int, test_engine: Engine) -> None:
        self.failure, self.index, self.test_engine = failure, index, test_engine
        self.statements = 0
        self.has_failed = False

    def __call__(self, connection: Connection, statement: str, parameters: Any) -> str | None:
        if connection.engine is self.test_engine or self.has_failed:
            return None
        self.statements += 1
        if self.statements - 1 < self.index:
            return None
        self.has_failed = True
        if self.failure == "error":
            return "SELECT 1 / 0"
        if self.failure == "connection lost":
            terminate_connection(self.test_engine, connection.connection.dbapi_connection)
        if self.failure == "delay":
            time.sleep(0.3)
        return None


def terminate_connection(engine: Engine, connection: Any) -> None:
    """Terminate a connection's PostgreSQL process and wait for its end."""
    backend_pid = connection.info.backend_pid
    with engine.connect() as admin_connection:
        admin_connection.execute(
            text("SELECT pg_terminate_backend(:process, 5000)"), {"process": backend_pid}
        )


@contextmanager
def injected_failure(failure: str, index: int, test_engine: Engine) -> Iterator[FailureInjector]:
    injector = FailureInjector(failure, index, test_engine)
    with before_each_statement(injector):
        yield injector


def _complete_batch(ledger: LedgerFixture) -> tuple[list[Transfer], list[CoinAccount], list[int]]:
    """Return a batch, its accounts, and their balances after the batch.

    Posting this batch executes every statement that posting can execute.
    """
    ann, ben, cat = ledger.open({0: 5, 2: 95}), ledger.open({0: 100}), ledger.open()
    order = ledger.order_refill(cat, 10)
    transfers = [ledger.gift(ann, ben, 60), ledger.gift(ben, cat, 20), ledger.refill(ann, 7), order]
    return transfers, [ann, ben, cat], [47, 140, 30]


def test_complete_batch_has_the_expected_number_of_statements(ledger: LedgerFixture) -> None:
    transfers, accounts, coins = _complete_batch(ledger)
    with ledger.database.engine.begin() as connection, record_statements() as statements:
        posting.post(connection, transfers, 0)
    assert len(statements) == BATCH_STATEMENT_COUNT
    assert ledger.coins(*accounts) == coins


def test_batch_of_gifts_to_hosts_with_a_slot_of_the_writer_needs_four_statements(
    ledger: LedgerFixture,
) -> None:
    givers, hosts = [ledger.open({0: 9}) for _ in range(3)], [ledger.open({1: 1}) for _ in range(2)]
    gifts = [ledger.gift(giver, host, 2) for giver in givers for host in hosts]
    with ledger.database.engine.begin() as connection, record_statements() as statements:
        posting.post(connection, gifts, 0)
    assert len(statements) == 4
    assert not any("INSERT INTO coin_slots" in statement for statement in statements)
    assert ledger.coins(*givers, *hosts) == [5, 5, 5, 7, 7]


@pytest.mark.parametrize("index", range(BATCH_STATEMENT_COUNT))
@pytest.mark.parametrize("failure", FAILURES)
def test_failure_at_any_statement_posts_each_transfer_once(
    failure: str,
    index: int,
    writer: LedgerBatchWriter,
    ledger: LedgerFixture,
    paused_posting: PausedPosting,
) -> None:
    transfers, accounts, coins = _complete_batch(ledger)
    other_account = ledger.open({0: 1})
    with run_in_background(partial(submit, writer, ledger.refill(other_account, 1))):
        assert paused_posting.reached.wait(20)
        with run_in_background(
            *[partial(submit, writer, transfer) for transfer in transfers]
        ) as outcomes:
            wait_until(
                lambda: writer.queue_length == len(transfers), WAIT_S, "all transfers in the queue"
            )
            statement = REFILL_STATEMENT_COUNT + index
            with injected_failure(failure, statement, ledger.database.engine) as injector:
                paused_posting.resume.set()
                wait_until(lambda: all(outcomes), WAIT_S, "all outcomes")
    assert injector.has_failed
    assert [outcome.status for outcome in outcomes] == [DONE] * 4
    assert ledger.coins(*accounts) == coins
    # Retries move no coins.
    assert submit_all(writer, transfers) == [REPLAYED] * 4
    assert ledger.coins(*accounts) == coins


REFILL_STATEMENT_COUNT = 5


@contextmanager
def first_commit_fails(
    monkeypatch: pytest.MonkeyPatch, replace_commit: Callable[[Any], None]
) -> Iterator[list[Any]]:
    """Call `replace_commit` instead of the writer's first COMMIT.

    After the call, the writer gets the error of a lost connection.
    """
    commit_connections: list[Any] = []

    def new_database(*arguments: Any, **options: Any) -> Database:
        database = Database(*arguments, **options)
        commit = database.engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            if commit_connections:
                commit(connection)
                return
            commit_connections.append(connection)
            replace_commit(connection)
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(database.engine.dialect, "do_commit", do_commit)
        return database

    monkeypatch.setattr(batch_writer, "Database", new_database)
    yield commit_connections


def test_connection_lost_after_the_commit_posts_the_transfer_once(
    writer: LedgerBatchWriter, ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfers, accounts, coins = _complete_batch(ledger)

    def commit_and_disconnect(connection: Any) -> None:
        connection.commit()
        connection.driver_connection.close()

    with first_commit_fails(monkeypatch, commit_and_disconnect) as commit_connections:
        first_outcome = submit(writer, transfers[0])
        assert commit_connections
    # After the connection was lost, the writer retried the batch and found the committed transfer.
    assert first_outcome.status is REPLAYED
    assert submit_all(writer, transfers[1:]) == [DONE] * 3
    assert ledger.coins(*accounts) == coins
    assert submit_all(writer, transfers) == [REPLAYED] * 4


def test_connection_lost_before_the_commit_posts_the_transfer_once(
    writer: LedgerBatchWriter, ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()

    def disconnect(connection: Any) -> None:
        connection.driver_connection.close()

    with first_commit_fails(monkeypatch, disconnect):
        assert submit(writer, ledger.gift(ann, ben, 30)).status is DONE
    assert ledger.coins(ann, ben) == [70, 30]


def commit_later(connection: Any, *, wait_s: float) -> None:
    """Send a COMMIT that PostgreSQL delays by `wait_s` seconds; return at once.

    The function sends a simple query (PostgreSQL documentation, Frontend/Backend Protocol), and
    does not read the response.
    """
    commit_query = f"SELECT pg_sleep({wait_s}); COMMIT\0".encode()
    os.write(
        connection.driver_connection.fileno(),
        b"Q" + struct.pack("!I", len(commit_query) + 4) + commit_query,
    )


def test_writer_waits_for_a_commit_in_progress_after_losing_its_connection(
    writer: LedgerBatchWriter, ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    with first_commit_fails(monkeypatch, partial(commit_later, wait_s=0.4)):
        assert submit(writer, ledger.gift(ann, ben, 30)).status is REPLAYED
    assert ledger.coins(ann, ben) == [70, 30]


@pytest.mark.processes
def test_commit_of_unknown_outcome_is_never_reported_as_failed(
    writer: LedgerBatchWriter, ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    gift = ledger.gift(ann, ben, 30)
    # The first COMMIT takes longer than the lock timeout of the retry.
    with (
        first_commit_fails(monkeypatch, partial(commit_later, wait_s=1.6)),
        pytest.raises(ServiceUnavailable) as caught,
    ):
        submit(writer, gift)
    assert caught.value.outcome_unknown
    assert submit(writer, gift).status is REPLAYED
    assert ledger.coins(ann, ben) == [70, 30]


def test_transfer_fails_when_the_database_stays_unavailable(
    ledger: LedgerFixture, new_database: Callable[[str], str], worker_id: str, database: Database
) -> None:
    unavailable = Database(database.engine.url.set(database=f"missing_{worker_id}"))
    writer = LedgerBatchWriter(unavailable, writer_number=0)
    ann = ledger.open()
    with run_in_background(partial(submit, writer, ledger.refill(ann, 1), wait_s=0.5)) as results:
        pass
    assert isinstance(results[0], ServiceUnavailable)
    writer.close()
    unavailable.close()
    assert ledger.coins(ann) == [0]


def test_invalid_transfer_does_not_fail_the_other_transfers_of_its_batch(
    writer: LedgerBatchWriter, ledger: LedgerFixture, paused_posting: PausedPosting
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    unknown_account = CoinAccount(ben.id + 1_000_000)
    invalid_transfers = [
        # The credit account does not exist.
        ledger.gift(ann, unknown_account, 1),
        # The payment order does not exist.
        replace(ledger.refill(ben, 1), payment=Payment("direct", "unknown", "x")),
        # The actor has no coin account.
        replace(ledger.gift(ann, ben, 1), actor_id=unknown_account.id, debit=unknown_account),
        # The refill would exceed the largest balance.
        ledger.refill(ben, 2**63 - 1),
    ]
    valid_transfers = [ledger.gift(ann, ben, 10), ledger.refill(ann, 5), ledger.gift(ann, ben, 20)]
    batch = [
        valid_transfers[0],
        *invalid_transfers[:2],
        valid_transfers[1],
        *invalid_transfers[2:],
        valid_transfers[2],
    ]
    with run_in_background(partial(submit, writer, ledger.refill(ben, 1))):
        assert paused_posting.reached.wait(20)
        with run_in_background(
            *[partial(submit, writer, transfer) for transfer in batch]
        ) as results:
            wait_until(lambda: writer.queue_length == len(batch), WAIT_S, "the batch in the queue")
            paused_posting.resume.set()
    outcomes = dict(zip([transfer.request_id for transfer in batch], results, strict=True))
    assert [outcomes[transfer.request_id].status for transfer in valid_transfers] == [DONE] * 3
    errors = [outcomes[transfer.request_id] for transfer in invalid_transfers]
    assert isinstance(errors[0], IntegrityError)
    assert isinstance(errors[1], LookupError)
    assert isinstance(errors[2], LookupError)
    assert errors[3] == TransferOutcome(TransferStatus.BALANCE_LIMIT)
    assert ledger.coins(ann, ben) == [75, 31]


@pytest.mark.processes
def test_lock_timeout_fails_only_the_transfers_that_need_the_lock(
    writer: LedgerBatchWriter, ledger: LedgerFixture, paused_posting: PausedPosting
) -> None:
    ann, ben, cat = ledger.open({0: 100}), ledger.open({0: 100}), ledger.open()
    lock_statement = text("SELECT 1 FROM coin_slots WHERE coin_account_id = :id FOR NO KEY UPDATE")
    gifts = [ledger.gift(ann, cat, 1), ledger.gift(ben, cat, 1)]
    with ledger.database.engine.connect() as connection:
        connection.execute(lock_statement, {"id": ann.id})
        with run_in_background(partial(submit, writer, ledger.refill(cat, 1))):
            assert paused_posting.reached.wait(20)
            with run_in_background(
                *[partial(submit, writer, gift, wait_s=4) for gift in gifts]
            ) as results:
                wait_until(lambda: writer.queue_length == 2, WAIT_S, "2 queued transfers")
                paused_posting.resume.set()
    assert isinstance(results[0], DBAPIError)
    assert results[1].status is DONE
    assert ledger.coins(ann, ben, cat) == [100, 99, 2]


def test_writer_continues_after_an_unexpected_exception(
    writer: LedgerBatchWriter, ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = ledger.open()

    def failing_post(*_: Any, **__: Any) -> list[TransferOutcome]:
        raise LookupError("programming error")

    with monkeypatch.context() as patch:
        patch.setattr(batch_writer, "post", failing_post)
        with pytest.raises(LookupError, match="programming error"):
            submit(writer, ledger.refill(ann, 1))
    assert submit(writer, ledger.refill(ann, 1)).status is DONE


def test_requests_that_hold_all_connections_do_not_block_the_writer(
    database_url: str, ledger: LedgerFixture
) -> None:
    single_connection = Database(database_url, pool_size=1, pool_timeout_s=0.1)
    writer = LedgerBatchWriter(single_connection, writer_number=0)
    ann = ledger.open()
    with single_connection.engine.connect():
        assert submit(writer, ledger.refill(ann, 1)).status is DONE
    writer.close()
    single_connection.close()


def test_first_transfer_starts_the_writer(writer: LedgerBatchWriter, ledger: LedgerFixture) -> None:
    assert not writer.is_running
    submit(writer, ledger.refill(ledger.open(), 1))
    assert writer.is_running


def test_error_that_arrives_after_the_deadline_is_raised(ledger: LedgerFixture) -> None:
    transfer = ledger.refill(ledger.open(), 1)

    class ResolvedDuringRead(batch_writer.PendingTransfer):
        """Gets an error from the writer after the caller has read the result once."""

        reads = 0

        @property
        def _result(self) -> ServiceUnavailable | None:
            self.reads += 1
            return ServiceUnavailable("late") if self.reads > 1 else None

        @_result.setter
        def _result(self, value: object) -> None:
            """Ignore the initial value."""

    pending = ResolvedDuringRead(transfer, deadline=0)
    with pytest.raises(ServiceUnavailable):
        pending.outcome()


def test_writers_without_a_number_credit_different_slots(
    new_writer: Callable[..., LedgerBatchWriter], ledger: LedgerFixture
) -> None:
    host = ledger.open()
    # The application of other tests has claimed a few of the 16 numbers.
    for writer in [new_writer(writer_number=None) for _ in range(8)]:
        submit(writer, ledger.refill(host, 1))
    assert sorted(ledger.slots(host).values()) == [0, *[1] * 8]


def test_writer_without_a_free_number_posts_transfers(
    new_writer: Callable[..., LedgerBatchWriter], database: Database, ledger: LedgerFixture
) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            text("SELECT pg_try_advisory_xact_lock(5301, n) FROM generate_series(0, 15) AS n")
        )
        writer = new_writer(writer_number=None)
        assert submit(writer, ledger.refill(ledger.open(), 1)).status is DONE


def test_closed_writer_gives_its_number_back(
    new_writer: Callable[..., LedgerBatchWriter], database: Database, ledger: LedgerFixture
) -> None:
    select_numbers = text(
        """
        SELECT objid FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE classid = 5301 AND datname = current_database()
        """
    )

    def claimed_numbers() -> set[int]:
        with database.engine.connect() as connection:
            return set(connection.execute(select_numbers).scalars())

    numbers_before = claimed_numbers()
    writer = new_writer(writer_number=None)
    submit(writer, ledger.refill(ledger.open(), 1))
    assert len(claimed_numbers() - numbers_before) == 1
    writer.close()
    wait_until(lambda: claimed_numbers() <= numbers_before, WAIT_S, "the number")


@pytest.mark.parametrize("writer_number", [0, 7, 15])
def test_credits_go_to_the_slot_of_the_writer(
    writer_number: int, new_writer: Callable[..., LedgerBatchWriter], ledger: LedgerFixture
) -> None:
    ann = ledger.open()
    submit(new_writer(writer_number=writer_number), ledger.refill(ann, 9))
    assert ledger.slots(ann) == {0: 0, 1 + writer_number: 9}


def test_two_writers_post_the_same_request_once(
    new_writer: Callable[..., LedgerBatchWriter], ledger: LedgerFixture
) -> None:
    writers = [new_writer(writer_number=number) for number in (0, 1)]
    ann, ben = ledger.open({0: 1000}), ledger.open()
    for key in range(20):
        gift = ledger.gift(ann, ben, 10, str(key))
        outcomes = run_concurrently(*[partial(submit, writers[n % 2], gift) for n in range(8)])
        statuses = [outcome.status for outcome in outcomes]
        assert sorted(statuses, key=str) == [DONE] + [REPLAYED] * 7
    assert ledger.coins(ben) == [200]


@pytest.mark.processes
def test_stopping_server_responds_to_requests_in_progress(
    database_url: str,
    database: Database,
    tmp_path: Path,
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
) -> None:
    ann.refill("100")
    lock_statement = text("SELECT 1 FROM coin_slots WHERE slot = 0 FOR NO KEY UPDATE")
    gift_form = {"object": ben.phone, "value": "30", "description": "a rose", "send_gift": "1"}
    with running_server(DEVELOPMENT_INI, tmp_path, {"database.url": database_url}) as server:
        send = partial(requests.post, f"{server.address}/golden", timeout=10)
        with database.engine.begin() as connection:
            connection.execute(lock_statement)
            with run_in_background(
                partial(send, data={**gift_form, "token": ann.token})
            ) as responses:
                wait_until(
                    lambda: is_blocking(database, connection), WAIT_S, "a blocked transaction"
                )
                os.kill(server.pid, signal.SIGINT)
                time.sleep(0.2)
                connection.rollback()
    assert responses[0].json() == {"result": "0000", "message": None}
    assert (database_state.coins(ann), database_state.coins(ben)) == (70, 30)


def test_writer_that_fails_reports_unknown_outcomes_at_once_and_is_restarted(
    ledger: LedgerFixture, writer: LedgerBatchWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = ledger.open()

    def fail(*_: object, **__: object) -> None:
        raise SystemExit(1)

    with monkeypatch.context() as patch:
        patch.setattr(batch_writer, "post", fail)
        # The call would last until its deadline if the writer set no outcome.
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(submit, writer, ledger.refill(account, 5), wait_s=6 * WAIT_S)
            error = result.exception(WAIT_S)
    assert isinstance(error, ServiceUnavailable)
    assert error.outcome_unknown
    assert submit(writer, ledger.refill(account, 3)).status is DONE
    assert ledger.coins(account) == [3]
    assert (writer.thread.failures, writer.is_running) == (1, True)


def test_transfers_in_the_queue_of_a_failed_writer_are_posted_after_its_restart(
    ledger: LedgerFixture,
    writer: LedgerBatchWriter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = ledger.open()
    failing, may_fail = threading.Event(), threading.Event()

    def fail(*_: object, **__: object) -> None:
        failing.set()
        assert may_fail.wait(WAIT_S)
        monkeypatch.undo()
        raise SystemExit(1)

    monkeypatch.setattr(batch_writer, "post", fail)
    with run_in_background(partial(submit, writer, ledger.refill(account, 5))) as errors:
        assert failing.wait(WAIT_S)
        results = [_submit_in_thread(writer, ledger.refill(account, n)) for n in (1, 2)]
        may_fail.set()
        assert [result() for result in results] == [DONE, DONE]
    assert isinstance(errors[0], ServiceUnavailable)
    assert ledger.coins(account) == [3]


def test_transfer_is_rejected_at_once_if_the_writer_cannot_start(
    ledger: LedgerFixture, writer: LedgerBatchWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    account = ledger.open()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(ServiceUnavailable) as caught:
            submit(writer, ledger.refill(account, 5), wait_s=60)
        assert not caught.value.outcome_unknown
        assert writer.thread.is_failed
    assert submit(writer, ledger.refill(account, 3)).status is DONE
    assert ledger.coins(account) == [3]


def is_blocking(database: Database, connection: Connection) -> bool:
    """Return whether a lock that `connection` holds blocks another connection."""
    backend_pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    count_blocked_query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))"
    )
    with database.engine.connect() as observer:
        return bool(observer.execute(count_blocked_query, {"pid": backend_pid}).scalar_one())
