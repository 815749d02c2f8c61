"""Acknowledged transfers survive a failover to the synchronous standby."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from livebackend.core.errors import ServiceUnavailable
from livebackend.database.engine import Database
from livebackend.database.rate_limit_counters import RateLimitCounters
from livebackend.gateways.payments.protocol import ProviderPayment
from livebackend.ledger.audit import audit
from livebackend.ledger.batch_writer import LedgerBatchWriter
from livebackend.ledger.transfers import (
    CoinAccount,
    Transfer,
    TransferOutcome,
    TransferStatus,
    client_request_id,
)
from livebackend.services.rate_limits import RateLimit, RateLimiter
from livebackend_client import Client, ConnectionFailed, OperationRefused, ServerUnavailable
from tests.support import replica
from tests.support.api import PASSWORD, ApiClient, ApiResponse, UserClient
from tests.support.application import DEVELOPMENT_INI, create_app
from tests.support.ledger_helpers import LedgerFixture
from tests.support.payments import FAKE_PAYMENTS, notify
from tests.support.postgres_node import WAIT_S, CommitWait
from tests.support.replica import Cluster
from tests.support.servers import Server, running_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

CLIENT_COUNT = 6
# How long the clients send gifts before the failover, and again after it.
GIFT_SENDING_S = 1.5
# How long a test checks that there is no response while a COMMIT waits for the standby.
NO_RESPONSE_S = 0.2

_SELECT_ACTOR_ID = text(
    "SELECT coin_accounts.id FROM coin_accounts JOIN accounts ON accounts.id = owner_id"
    " WHERE phone = :phone"
)
_SELECT_REQUEST_IDS = text("SELECT request_id FROM transfers WHERE actor_id = :actor")


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with replica.cluster(tmp_path_factory.mktemp("replication")) as nodes:
        yield nodes


@pytest.fixture
def cluster(two_nodes: Cluster) -> Cluster:
    """A primary with a connected standby."""
    two_nodes.restore_standby()
    return two_nodes


@pytest.fixture
def ledger(cluster: Cluster) -> Iterator[LedgerFixture]:
    database = Database(cluster.url)
    yield LedgerFixture(database)
    database.close()


@pytest.fixture
def writers(ledger: LedgerFixture) -> Iterator[list[LedgerBatchWriter]]:
    """Two batch writers, as in two workers."""
    writers = [LedgerBatchWriter(ledger.database, writer_number=number) for number in range(2)]
    yield writers
    for writer in writers:
        writer.close()


@pytest.fixture(scope="module")
def server(two_nodes: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A worker for all tests, which can connect to both nodes and survives failovers."""
    settings = {"database.url": two_nodes.url, "streams.check_interval_s": "0"}
    with running_server(DEVELOPMENT_INI, tmp_path_factory.mktemp("server"), settings) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CLIENT_COUNT) as pool:
        yield pool


def submit(
    writer: LedgerBatchWriter, transfer: Transfer, *, wait_s: float = WAIT_S
) -> TransferOutcome:
    return writer.submit(transfer, deadline=time.monotonic() + wait_s)


def wait_for_commit_wait(
    cluster: Cluster, response: Future[Any], *, after: CommitWait | None = None
) -> CommitWait:
    """Wait until a COMMIT waits for the standby; return its `CommitWait`.

    Fails if the server responds before a COMMIT waits for the standby.
    """

    def find_new_wait() -> CommitWait | None:
        assert not response.done(), (
            f"the server responded without waiting for the standby: {response.result()}"
        )
        return cluster.primary.commit_wait(after=after)

    return wait_until(find_new_wait, WAIT_S, "COMMIT that waits for the standby")


def count_postings(database: Database, transfer: Transfer) -> int:
    return count_transfers_by_request_id(database, transfer.actor_id)[transfer.request_id]


def count_transfers_by_request_id(database: Database, actor_id: int) -> Counter[UUID]:
    with database.engine.connect() as connection:
        return Counter(connection.execute(_SELECT_REQUEST_IDS, {"actor": actor_id}).scalars())


def test_retried_gift_waits_for_the_standby(
    cluster: Cluster,
    ledger: LedgerFixture,
    writers: Sequence[LedgerBatchWriter],
    pool: ThreadPoolExecutor,
) -> None:
    gift = ledger.gift(ledger.open({0: 100}), ledger.open(), 30)
    cluster.disconnect_standby()
    response = pool.submit(submit, writers[0], gift)
    first_wait = wait_for_commit_wait(cluster, response)
    cluster.primary.terminate(first_wait)
    wait_for_commit_wait(cluster, response, after=first_wait)
    # A retry through another ledger writer also waits for the standby.
    with pytest.raises(ServiceUnavailable) as caught:
        submit(writers[1], gift, wait_s=0.5)
    assert caught.value.outcome_unknown
    assert not response.done()
    cluster.reconnect_standby()
    assert response.result(WAIT_S).status is TransferStatus.REPLAYED
    assert submit(writers[1], gift).status is TransferStatus.REPLAYED
    assert count_postings(ledger.database, gift) == 1
    assert ledger.audit_errors() == []


def test_transfer_is_posted_again_after_a_cancelled_wait_for_the_standby(
    cluster: Cluster,
    ledger: LedgerFixture,
    writers: Sequence[LedgerBatchWriter],
    pool: ThreadPoolExecutor,
) -> None:
    gift = ledger.gift(ledger.open({0: 100}), ledger.open(), 30)
    cluster.disconnect_standby()
    response = pool.submit(submit, writers[0], gift)
    # Cancel the wait of the gift's COMMIT first, and then the wait of the retry's COMMIT.
    wait = wait_for_commit_wait(cluster, response)
    for _ in range(2):
        cluster.primary.cancel(wait)
        wait = wait_for_commit_wait(cluster, response, after=wait)
    cluster.reconnect_standby()
    assert response.result(WAIT_S).status is TransferStatus.REPLAYED
    assert count_postings(ledger.database, gift) == 1
    assert ledger.audit_errors() == []


def test_rejected_transfer_does_not_wait_for_the_standby(
    cluster: Cluster, ledger: LedgerFixture, writers: Sequence[LedgerBatchWriter]
) -> None:
    ann, ben = ledger.open({0: 100}), ledger.open()
    submit(writers[0], ledger.gift(ann, ben, 1, "used"))
    cluster.disconnect_standby()
    assert (
        submit(writers[0], ledger.gift(ann, ben, 1000)).status is TransferStatus.INSUFFICIENT_COINS
    )
    assert submit(writers[0], ledger.gift(ann, ben, 2, "used")).status is TransferStatus.CONFLICT
    cluster.reconnect_standby()


class Retry(NamedTuple):
    """The retry of a request that the server has processed, and the expected response."""

    send: Callable[[], Any]
    expected: Any


@pytest.fixture
def new_api(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[str], ApiClient]]:
    """Function that creates an application and returns a client of it.

    The argument is the value of the setting `coins.refill`.
    """
    apps = []

    def create(refill: str) -> ApiClient:
        apps.append(
            create_app(cluster.url, tmp_path, coins__refill=refill, payments__gateway=FAKE_PAYMENTS)
        )
        return ApiClient(apps[-1])

    yield create
    for app in apps:
        app.registry.services.close()


def retry_of_payment_notification(new_api: Callable[[str], ApiClient]) -> Retry:
    api = new_api("order")
    order = new_user(api).refill("10").message
    provider = api.app.registry.services.payment_orders.gateway(order["provider"])
    payment = ProviderPayment(order["orderId"], f"paid-{order['orderId']}", order["fen"])
    assert notify(api.app, provider, payment) == 204
    return Retry(partial(notify, api.app, provider, payment), 204)


def retry_of_ordered_refill(new_api: Callable[[str], ApiClient]) -> Retry:
    buyer = new_user(new_api("order"))
    return retry_after(lambda: buyer.refill("10", requestId="r"))


def retry_of_direct_refill(new_api: Callable[[str], ApiClient]) -> Retry:
    buyer = new_user(new_api("direct"))
    return retry_after(lambda: buyer.refill("10", requestId="r"))


def retry_of_gift_to_removed_host(new_api: Callable[[str], ApiClient]) -> Retry:
    api = new_api("direct")
    giver, host = new_user(api), new_user(api)
    giver.refill("10")
    retry = retry_after(lambda: giver.send_gift(host, "1", requestId="r"))
    assert host.post("/register", remove="1", password=PASSWORD).result == "0000"
    return retry


def retry_of_friend_removal(new_api: Callable[[str], ApiClient]) -> Retry:
    api = new_api("direct")
    ann, ben = new_user(api), new_user(api)
    ann.befriend(ben)
    send_delete = partial(ann.post, "/friend", delete="1", userId=ben.phone)
    return retry_after(send_delete, error="userId; reason=not_friends")


def retry_of_leave(new_api: Callable[[str], ApiClient]) -> Retry:
    host = new_user(new_api("direct"))
    assert host.go_live().result == "0000"
    send_leave = partial(host.post, "/room", leave="1")
    return retry_after(send_leave, error="room; reason=room_not_open")


def retry_after(send: Callable[[], ApiResponse], *, error: str | None = None) -> Retry:
    """Send a request that must succeed; return a retry of it.

    The response to the retry must have the same message, and `error` as its X-Error header.
    """
    first_response = send()
    assert first_response.result == "0000", first_response

    def send_again() -> tuple[Any, str | None]:
        response = send()
        return response.message, response.error

    return Retry(send_again, (first_response.message, error))


def new_user(api: ApiClient) -> UserClient:
    return api.register_user(new_phone())


def new_phone() -> str:
    return f"139{uuid4().int % 10**8:08}"


@pytest.mark.parametrize(
    "prepare_retry",
    [
        retry_of_payment_notification,
        retry_of_ordered_refill,
        retry_of_direct_refill,
        retry_of_gift_to_removed_host,
        retry_of_friend_removal,
        retry_of_leave,
    ],
)
def test_response_to_a_retry_waits_for_the_standby(
    prepare_retry: Callable[[Callable[[str], ApiClient]], Retry],
    cluster: Cluster,
    new_api: Callable[[str], ApiClient],
    pool: ThreadPoolExecutor,
) -> None:
    retry = prepare_retry(new_api)
    with cluster.disconnected_standby():
        response = pool.submit(retry.send)
        wait_for_commit_wait(cluster, response)
        with pytest.raises(TimeoutError):
            response.result(NO_RESPONSE_S)
    assert response.result(WAIT_S) == retry.expected


def register_client(server: Server, phone: str) -> Client:
    client = Client(server.address, timeout_s=10)
    ticket = client.send_code(token=phone)
    client.verify_code(code_v=ticket, code=ticket)
    client.register(user_id=phone, password=PASSWORD)
    client.token = client.log_in(user_id=phone, password=PASSWORD)
    return client


class Giver:
    """A client that gives coins to a host, and the request ids that were acknowledged."""

    def __init__(self, server: Server, ledger: LedgerFixture) -> None:
        self.acknowledged: list[str] = []
        phone, self._host = new_phone(), new_phone()
        self._client = register_client(server, phone)
        self._client.max_attempts = 1
        register_client(server, self._host).close()
        with ledger.database.engine.begin() as connection:
            self._actor: int = connection.execute(_SELECT_ACTOR_ID, {"phone": phone}).scalar_one()
            ledger.set_up_balances(connection, {CoinAccount(self._actor): {0: 1_000_000}})

    def give(self, request_id: str) -> bool:
        """Send a gift once; return whether it is acknowledged."""
        try:
            self._client.send_gift(
                object=self._host, value=1, description="a rose", request_id=request_id
            )
        except (ServerUnavailable, ConnectionFailed):
            return False
        except OperationRefused as error:
            if error.reason != "ledger_busy":
                raise
            return False
        self.acknowledged.append(request_id)
        return True

    def close(self) -> None:
        self._client.close()

    def retry(self, request_id: str) -> None:
        """Send a gift repeatedly until the server acknowledges the gift."""
        deadline = time.monotonic() + WAIT_S
        while not self.give(request_id):
            assert time.monotonic() < deadline, f"gift {request_id} was not acknowledged in time"
            time.sleep(0.05)

    def give_until(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.retry(uuid4().hex)

    def count_transfers(self, database: Database) -> Counter[UUID]:
        """Count the giver's transfers by request id, including the initial refill."""
        return count_transfers_by_request_id(database, self._actor)

    def not_posted_once(self, database: Database) -> list[str]:
        """Return the acknowledged request ids that have no transfer, or more than one."""
        transfer_counts = self.count_transfers(database)
        return [
            request_id
            for request_id in self.acknowledged
            if transfer_counts[client_request_id(self._actor, request_id)] != 1
        ]


@pytest.fixture
def new_giver(ledger: LedgerFixture, server: Server) -> Iterator[Callable[[], Giver]]:
    with ExitStack() as givers:
        yield lambda: givers.enter_context(closing(Giver(server, ledger)))


def test_failover_after_an_interrupted_commit_loses_no_acknowledged_gift(
    cluster: Cluster,
    ledger: LedgerFixture,
    new_giver: Callable[[], Giver],
    pool: ThreadPoolExecutor,
) -> None:
    giver = new_giver()
    request_id = uuid4().hex
    cluster.disconnect_standby()
    response = pool.submit(giver.give, request_id)
    cluster.primary.terminate(wait_for_commit_wait(cluster, response))
    responses = [response.result(WAIT_S), giver.give(request_id)]
    # The gift is committed on the primary, but not on the standby.
    transfers_before = giver.count_transfers(ledger.database)
    cluster.fail_over()
    ledger.database.engine.dispose()
    transfers_after = giver.count_transfers(ledger.database)
    assert giver.not_posted_once(ledger.database) == []
    assert responses == [False, False]
    assert (transfers_before.total(), transfers_after.total()) == (2, 1)
    # A retry posts the gift once on the new primary.
    giver.retry(request_id)
    assert giver.not_posted_once(ledger.database) == []
    assert giver.count_transfers(ledger.database).total() == 2
    assert ledger.audit_errors() == []


def test_failover_during_gifts_of_many_clients_loses_no_acknowledged_gift(
    cluster: Cluster,
    ledger: LedgerFixture,
    new_giver: Callable[[], Giver],
    pool: ThreadPoolExecutor,
) -> None:
    givers = [new_giver() for _ in range(CLIENT_COUNT)]
    stop_event = threading.Event()
    futures = [pool.submit(giver.give_until, stop_event) for giver in givers]
    try:
        time.sleep(GIFT_SENDING_S)
        acknowledged_before = sum(len(giver.acknowledged) for giver in givers)
        cluster.fail_over()
        wait_until(
            partial(has_new_acknowledgement, givers, acknowledged_before),
            WAIT_S,
            "gift after the failover",
        )
        time.sleep(GIFT_SENDING_S)
    finally:
        stop_event.set()
    for future in futures:
        future.result(WAIT_S)
    ledger.database.engine.dispose()
    assert [giver.not_posted_once(ledger.database) for giver in givers] == [[]] * CLIENT_COUNT
    transfer_counts = [giver.count_transfers(ledger.database).total() for giver in givers]
    assert transfer_counts == [len(giver.acknowledged) + 1 for giver in givers]
    assert acknowledged_before > CLIENT_COUNT
    assert ledger.audit_errors() == []
    assert audit(ledger.database, since_checkpoint=False).findings == []


def has_new_acknowledgement(givers: Sequence[Giver], acknowledged_before: int) -> bool:
    # Each client can have one gift in progress when the failover starts. Only acknowledgements of
    # further gifts show that the new primary accepts gifts.
    return sum(len(giver.acknowledged) for giver in givers) > acknowledged_before + CLIENT_COUNT


@pytest.fixture
def rate_limiter(cluster: Cluster) -> Iterator[RateLimiter]:
    """A rate limiter whose commits do not wait for the disk, as in the application."""
    database = Database(cluster.url)
    counters = RateLimitCounters(database.with_own_pool(1, durable=False))
    rules = {"sms_phone": "3 per day", "sms_total": "2000 per day"}
    limiter = RateLimiter(counters, rules, key=b"key")
    yield limiter
    limiter.close()
    database.close()


def test_rate_limits_survive_a_failover(
    cluster: Cluster, ledger: LedgerFixture, rate_limiter: RateLimiter
) -> None:
    limits = (RateLimit("sms_phone", new_phone()), RateLimit("sms_total", "all"))
    assert [rate_limiter.try_consume(*limits) for _ in range(4)] == [True, True, True, False]
    # A durable COMMIT, such as that of a verification code, replicates all earlier counts.
    ledger.database.await_replication()
    cluster.fail_over()
    assert not rate_limiter.try_consume(*limits)
    assert rate_limiter.try_consume(RateLimit("sms_phone", new_phone()), limits[1])


def test_count_of_a_request_does_not_wait_for_the_standby(
    cluster: Cluster, rate_limiter: RateLimiter
) -> None:
    with cluster.disconnected_standby():
        assert rate_limiter.try_consume(RateLimit("sms_phone", new_phone()))


def test_counts_are_replicated_without_another_commit(
    cluster: Cluster, rate_limiter: RateLimiter
) -> None:
    rate_limiter.consume(RateLimit("sms_phone", new_phone()))
    select_counts = "SELECT key, counts FROM rate_limit_counters ORDER BY key"
    counts = cluster.primary.query(select_counts)
    wait_until(
        lambda: cluster.standby.query(select_counts) == counts, WAIT_S, "the standby to replay"
    )
