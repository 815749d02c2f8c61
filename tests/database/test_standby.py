"""Calls that reach a standby, and calls during and after its promotion."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError
from webtest import TestApp

from livebackend.database.engine import Database
from livebackend.database.prepared_statements import PreparedStatement
from livebackend.database.rate_limit_counters import RateLimitCounters, WindowRule
from livebackend.ledger.batch_writer import LedgerBatchWriter
from livebackend.ledger.transfers import TransferStatus
from tests.support import replica
from tests.support.api import PASSWORD, ApiClient
from tests.support.application import create_app
from tests.support.ledger_helpers import LedgerFixture
from tests.support.postgres_node import WAIT_S, Node, url_at_port
from tests.support.replica import Cluster
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

POOL_SIZE = 3
PHONE = "13800000001"
_INSERT = text(
    "INSERT INTO code_attempts VALUES (sha256(random()::text::bytea), ARRAY[now()], now())"
)
_PREPARED_INSERT = PreparedStatement(_INSERT)
# An unlogged table, which a standby cannot read: SQLSTATE 0A000.
_READ_UNLOGGED = text("SELECT count(*) FROM rate_limit_windows")
_PREPARED_READ_UNLOGGED = PreparedStatement(_READ_UNLOGGED)

WORKS: list[Callable[[Connection], object]] = [
    lambda connection: connection.execute(_INSERT),
    lambda connection: _PREPARED_INSERT.run(connection, {}),
    lambda connection: connection.execute(_READ_UNLOGGED),
    lambda connection: _PREPARED_READ_UNLOGGED.run(connection, {}),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A primary and a standby; a COMMIT does not wait for the standby."""
    with replica.cluster(tmp_path) as nodes:
        nodes.restore_standby()
        nodes.primary.configure("synchronous_standby_names", "")
        yield nodes


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[TcpProxy]:
    """A proxy of the standby. It can lead new connections to the primary."""
    proxy = TcpProxy(cluster.standby.socket)
    yield proxy
    proxy.close()


@pytest.fixture
def database(proxy: TcpProxy) -> Iterator[Database]:
    database = Database(url_at_port(proxy.port), pool_size=POOL_SIZE)
    yield database
    database.close()


def connect_all(database: Database) -> None:
    """Open all connections of the pool."""
    with ExitStack() as stack:
        for _ in range(POOL_SIZE):
            stack.enter_context(database.engine.connect())


def test_call_that_reaches_a_standby_runs_again_on_the_primary(
    database: Database, proxy: TcpProxy, cluster: Cluster
) -> None:
    for run in (database.run, database.run_autocommit):
        for work in WORKS:
            database.engine.dispose()
            proxy.target = cluster.standby.socket
            connect_all(database)
            proxy.target = cluster.primary.socket
            run(work)
    assert cluster.primary.query("SELECT count(*) FROM code_attempts") == [(4,)]


def test_rate_limit_that_reaches_a_standby_counts_on_the_primary(
    database: Database, proxy: TcpProxy, cluster: Cluster
) -> None:
    counters = RateLimitCounters(database.with_own_pool(1, durable=False))
    rule = WindowRule("key", 1, 60, counted=True)
    assert not counters.is_any_exhausted([rule])  # opens the connection to the standby
    proxy.target = cluster.primary.socket
    assert counters.count([rule]) is None
    assert counters.is_any_exhausted([rule])
    counters.close()


def test_gift_that_reaches_a_standby_is_posted_once_on_the_primary(
    database: Database, proxy: TcpProxy, cluster: Cluster
) -> None:
    primary_database = Database(cluster.primary.url)
    ledger = LedgerFixture(primary_database)
    gift = ledger.gift(ledger.open({0: 100}), ledger.open(), 30)
    writer = LedgerBatchWriter(database, writer_number=1)
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(writer.submit, gift, deadline=monotonic() + WAIT_S)
        wait_until(lambda: proxy.connection_count, WAIT_S, "the writer to connect")
        proxy.target = cluster.primary.socket
        assert outcome.result(WAIT_S).status is TransferStatus.DONE
    writer.close()
    assert ledger.audit_errors() == []
    primary_database.close()


def test_operations_on_a_standby_are_503_until_it_is_promoted(
    proxy: TcpProxy, cluster: Cluster, tmp_path: Path
) -> None:
    proxy.target = cluster.primary.socket
    app = create_app(
        url_at_port(proxy.port), tmp_path, limits__password_hashes_account="100 per minute"
    )
    user = ApiClient(app).register_user(PHONE)
    wait_for_replication(cluster.standby)
    proxy.target = cluster.standby.socket
    cluster.primary.kill()
    login = {"userId": PHONE, "password": PASSWORD}
    for path, form, result in (
        ("/log", login, "0008"),
        ("/register", {"token": "13800000009"}, "0002"),
        ("/golden", {"refill": "1", "money": "10", "token": user.token}, "0013"),
    ):
        response = ApiClient(app).post(path, **form)
        assert (response.status, response.result) == (503, result)
    failures = TestApp(app).get("/readyz", status=503).json["failures"]
    assert failures == {"database": "PostgreSQL is read-only"}
    cluster.standby.promote()
    assert ApiClient(app).post("/log", **login).result == "0000"
    wait_until(
        lambda: TestApp(app).get("/readyz", expect_errors=True).status_int == 200,
        WAIT_S,
        "the server to be ready",
    )
    app.registry.services.close()


def wait_for_replication(standby: Node) -> None:
    account_query = "SELECT 1 FROM accounts WHERE phone = %s"
    wait_until(lambda: standby.query(account_query, PHONE), WAIT_S, "the standby to have the user")


def test_server_of_the_url_that_is_frozen_is_replaced_by_the_promoted_server(
    cluster: Cluster,
) -> None:
    database = Database(cluster.url, pool_size=POOL_SIZE, call_timeout_s=4)
    connect_all(database)
    with cluster.primary.frozen():
        cluster.standby.promote()
        with pytest.raises(OperationalError):
            database.run(WORKS[0])  # until its deadline, on a connection to the frozen server
        database.run(WORKS[0])
        assert cluster.standby.query("SELECT count(*) FROM code_attempts") == [(1,)]
    database.close()
