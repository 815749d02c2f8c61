"""Deadlines of database calls while PostgreSQL does not respond."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.core.errors import CommitOutcomeUnknown
from livebackend.core.request_context import DatabaseBudget, database_budget
from livebackend.database.availability import DatabaseNotResponding
from livebackend.database.engine import Database, disable_timeouts
from tests.support.postgres_backends import backend_pid
from tests.support.postgres_node import (
    Node,
    create_data_directory,
    socket_directory,
    url_at_port,
)
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

CALL_TIMEOUT_S = 0.5


def select_one(connection: Connection) -> int:
    return int(connection.execute(text("SELECT 1")).scalar_one())


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    account = create_data_directory(folder / "a")
    with socket_directory() as socket_root:
        node = Node("a", folder, socket_root, account)
        try:
            node.start()
            yield node
        finally:
            node.kill()


@pytest.fixture
def proxy(node: Node) -> Iterator[TcpProxy]:
    proxy = TcpProxy(node.socket)
    yield proxy
    proxy.close()


@pytest.fixture
def new_pool() -> Iterator[Callable[..., Database]]:
    """Function that returns a Database with a short timeout, which is closed after the test."""
    with ExitStack() as databases:

        def create(url: str, **options: Any) -> Database:
            database = Database(url, **{"call_timeout_s": CALL_TIMEOUT_S, **options})
            databases.callback(database.close)
            return database

        yield create


@pytest.mark.processes
class TestFrozenServer:
    @pytest.mark.parametrize("method", ["run", "run_autocommit"])
    def test_call_fails_at_its_deadline_and_succeeds_after_the_freeze(
        self, method: str, node: Node, new_pool: Callable[..., Database]
    ) -> None:
        run = getattr(new_pool(node.url), method)
        run(select_one)
        with node.frozen(), pytest.raises(OperationalError):
            run(select_one)
        assert run(select_one) == 1

    def test_commit_has_an_unknown_outcome(
        self, node: Node, new_pool: Callable[..., Database]
    ) -> None:
        database = new_pool(node.url)
        with ExitStack() as stack:

            def freeze_before_commit(connection: Connection) -> None:
                select_one(connection)
                stack.enter_context(node.frozen())

            with pytest.raises(CommitOutcomeUnknown):
                database.run(freeze_before_commit)

    def test_rollback_ends_at_the_deadline(
        self, node: Node, new_pool: Callable[..., Database]
    ) -> None:
        database = new_pool(node.url)
        with ExitStack() as stack:

            def freeze_before_rollback(connection: Connection) -> None:
                select_one(connection)
                stack.enter_context(node.frozen())
                raise KeyError

            with pytest.raises(OperationalError):
                database.run(freeze_before_rollback)
        assert database.run(select_one) == 1

    def test_later_calls_of_all_pools_fail_without_an_attempt(
        self, node: Node, new_pool: Callable[..., Database]
    ) -> None:
        database = new_pool(node.url)
        other_pool = database.with_own_pool(1)
        other_pool.run(select_one)
        with node.frozen():
            with pytest.raises(OperationalError):
                database.run(select_one)

            def call_during_the_test() -> None:
                for pool in (database, other_pool):
                    with pytest.raises(DatabaseNotResponding):
                        pool.run(select_one)

            database.availability.call(call_during_the_test)
        assert database.run(select_one) == 1
        other_pool.close()

    def test_silent_connections_of_other_pools_are_replaced_before_their_use(
        self, proxy: TcpProxy, new_pool: Callable[..., Database]
    ) -> None:
        database = new_pool(url_at_port(proxy.port))
        other_pool = database.with_own_pool(1, call_timeout_s=CALL_TIMEOUT_S)
        for pool in (database, other_pool):
            pool.run(select_one)
        proxy.replace_host()
        with suppress(OperationalError):
            database.run(select_one, tries=1)
        assert other_pool.run(select_one, tries=1) == 1
        other_pool.close()


@pytest.mark.processes
class TestSilentConnections:
    def test_pool_replaces_its_silent_connections(
        self, proxy: TcpProxy, new_pool: Callable[..., Database]
    ) -> None:
        database = new_pool(url_at_port(proxy.port), pool_size=3)
        with ExitStack() as stack:
            for _ in range(3):
                select_one(stack.enter_context(database.engine.connect()))
        proxy.replace_host()
        with pytest.raises(OperationalError):
            database.run(select_one)
        for _ in range(3):
            assert database.run(select_one) == 1

    def test_all_pools_replace_their_silent_connections_although_new_ones_get_responses(
        self, proxy: TcpProxy, new_pool: Callable[..., Database]
    ) -> None:
        database = new_pool(url_at_port(proxy.port), pool_size=2)
        other_pool = database.with_own_pool(1, call_timeout_s=CALL_TIMEOUT_S)
        for pool in (database, other_pool):
            pool.run(select_one)
        proxy.replace_host()

        def use_a_new_connection_and_wait_on_the_silent_one(silent: Connection) -> None:
            with database.engine.connect() as new_connection:
                select_one(new_connection)
            select_one(silent)

        with pytest.raises(OperationalError):
            database.run(use_a_new_connection_and_wait_on_the_silent_one)
        assert database.availability.is_available
        assert other_pool.run(select_one) == 1
        other_pool.close()

    def test_new_connection_to_a_silent_host_times_out(
        self, proxy: TcpProxy, new_pool: Callable[..., Database]
    ) -> None:
        database = new_pool(url_at_port(proxy.port))
        with proxy.silent(), pytest.raises(OperationalError, match="timeout expired"):
            database.run(select_one)
        assert not database.availability.is_available
        assert database.run(select_one) == 1
        assert database.availability.is_available

    def test_unused_host_of_the_url_may_be_silent(
        self, node: Node, proxy: TcpProxy, new_pool: Callable[..., Database]
    ) -> None:
        # The second server is reached by another proxy, because both hosts need a TCP port.
        working_proxy = TcpProxy(node.socket)
        database = new_pool(
            url_at_port(proxy.port).replace(f"127.0.0.1:{proxy.port}", "")
            + f"?host=127.0.0.1:{proxy.port}&host=127.0.0.1:{working_proxy.port}"
            "&target_session_attrs=read-write",
            call_timeout_s=4,
        )
        with proxy.silent():
            assert database.run(select_one) == 1
        working_proxy.close()


class TestDeadlines:
    def test_all_calls_of_a_request_share_its_budget(
        self, database_url: str, new_pool: Callable[..., Database]
    ) -> None:
        pools = [new_pool(database_url), new_pool(database_url)]
        statements: list[str] = []
        for pool in pools:
            event.listen(
                pool.engine, "before_cursor_execute", lambda *args: statements.append(args[2])
            )
        token = database_budget.set(DatabaseBudget(remaining_s=0.2))
        try:
            pools[0].run(lambda connection: connection.execute(text("SELECT pg_sleep(0.1)")))
            with pytest.raises(OperationalError):
                pools[1].run(lambda connection: connection.execute(text("SELECT pg_sleep(5)")))
            executed_count = len(statements)
            for pool in pools:
                with pytest.raises(DatabaseNotResponding):
                    pool.run(select_one)
            assert len(statements) == executed_count
        finally:
            database_budget.reset(token)
        assert pools[1].run(select_one) == 1

    def test_nested_calls_count_once(
        self, database_url: str, new_pool: Callable[..., Database]
    ) -> None:
        pool = new_pool(database_url, call_timeout_s=30)
        budget = DatabaseBudget(remaining_s=30)
        token = database_budget.set(budget)
        try:
            pool.run(
                lambda _: pool.run(lambda inner: inner.execute(text("SELECT pg_sleep(1)"))),
            )
        finally:
            database_budget.reset(token)
        # Counted twice, it would be at most 28 s.
        assert 28 < budget.remaining_s <= 29

    def test_call_without_timeouts_runs_after_its_deadline(
        self, database_url: str, new_pool: Callable[..., Database]
    ) -> None:
        pool = new_pool(database_url, call_timeout_s=0.1, statement_timeout_s=0.1)

        def sleep(connection: Connection) -> int:
            disable_timeouts(connection)
            connection.execute(text("SELECT pg_sleep(1)"))
            return backend_pid(connection)

        # The same connection executes the statement after the sleep.
        assert pool.run(sleep) == pool.run(backend_pid)

    def test_slow_call_does_not_end_its_connection_before_the_deadline(
        self, database_url: str, new_pool: Callable[..., Database]
    ) -> None:
        pool = new_pool(database_url, call_timeout_s=30, pool_size=1)
        first_pid = pool.run(backend_pid)
        pool.run(lambda connection: connection.execute(text("SELECT pg_sleep(0.6)")))
        assert pool.run(backend_pid) == first_pid


class TestLongResponses:
    # libpq reads again after 32 kB, so its socket must not block.
    @pytest.mark.parametrize("size", [40_000, 100_000, 1_000_000])
    def test_row_of_any_size_arrives(
        self, database_url: str, new_pool: Callable[..., Database], size: int
    ) -> None:
        pool = new_pool(database_url, call_timeout_s=5)
        select = text("SELECT repeat('x', :size)")
        row = pool.run(lambda connection: connection.execute(select, {"size": size}).scalar_one())
        assert row == "x" * size

    def test_sockets_of_connections_do_not_block(
        self, database_url: str, new_pool: Callable[..., Database]
    ) -> None:
        with new_pool(database_url).engine.connect() as connection:
            driver_connection: Any = connection.connection.driver_connection
            assert not os.get_blocking(driver_connection.fileno())


class TestStuckPool:
    def test_pool_is_stuck_while_slow_calls_use_all_its_connections(
        self, database_url: str, new_pool: Callable[..., Database]
    ) -> None:
        pool = new_pool(database_url, call_timeout_s=30, pool_size=2, pool_timeout_s=0.1)
        with pool.engine.connect() as connection:
            select_one(connection)
            with pool.engine.connect() as other_connection:
                select_one(other_connection)
                wait_until(lambda: pool.pool.is_stuck, 20, "the pool to be stuck")
                with pytest.raises(PoolTimeout):
                    pool.run(select_one)
            wait_until(lambda: not pool.pool.is_stuck, 20, "the pool to recover")
            assert pool.run(select_one) == 1


class TestConnectionParameters:
    def parameters(self, database: Database) -> dict[str, Any]:
        with database.engine.connect() as connection:
            driver_connection: Any = connection.connection.driver_connection
            return dict(driver_connection.info.dsn_parameters)

    def test_connection_ends_soon_after_its_host_is_lost(
        self, database_url: str, new_pool: Callable[..., Database]
    ) -> None:
        parameters = self.parameters(new_pool(database_url))
        assert parameters["tcp_user_timeout"] == "5000"
        assert parameters["keepalives_idle"] == "3"
        assert parameters["connect_timeout"] == "2"

    def test_parameter_of_the_url_overrides_the_default(
        self, database_url: str, new_pool: Callable[..., Database]
    ) -> None:
        url = f"{database_url}&tcp_user_timeout=9000&connect_timeout=7"
        parameters = self.parameters(new_pool(url))
        assert (parameters["tcp_user_timeout"], parameters["connect_timeout"]) == ("9000", "7")

    @pytest.mark.parametrize(("hosts", "timeout_s"), [(1, 2), (2, 1), (3, 1)])
    def test_time_for_a_new_connection_is_divided_by_the_hosts(
        self,
        hosts: int,
        timeout_s: int,
        new_pool: Callable[..., Database],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        timeouts: list[int] = []
        query = "&".join("host=127.0.0.1:1" for _ in range(hosts))
        database = new_pool(f"postgresql://x@/x?{query}", call_timeout_s=30)

        def record_timeout(*_: Any, connect_timeout: int, **__: Any) -> None:
            timeouts.append(connect_timeout)
            raise psycopg2.OperationalError

        monkeypatch.setattr(database.engine.dialect, "connect", record_timeout)
        with pytest.raises(OperationalError):
            database.run(select_one)
        assert set(timeouts) == {timeout_s}


def test_shutdown_of_a_connection_affects_no_other_file(
    database_url: str, new_pool: Callable[..., Database], tmp_path: Path
) -> None:
    pool = new_pool(database_url, call_timeout_s=0.1, pool_size=1)
    with pool.engine.connect() as connection:
        driver_connection: Any = connection.connection.driver_connection
        number = driver_connection.fileno()
        driver_connection.close()
        # A socket that gets the number of the closed connection.
        ours, theirs = socket.socketpair()
        assert number in (ours.fileno(), theirs.fileno())
        threading.Event().wait(1)  # several checks of the deadlines
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"
        connection.invalidate()
    for end in (ours, theirs):
        end.close()
