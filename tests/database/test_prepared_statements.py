"""Prepared statements: preparation per connection, transactions, errors, values."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from livebackend.database.engine import Database
from livebackend.database.prepared_statements import PreparedStatement
from tests.support.database_state import DatabaseState
from tests.support.postgres_backends import backend_pid, terminate_backend

_SUM = PreparedStatement(text("SELECT CAST(:a AS int) + CAST(:b AS int) AS sum, '100%' AS share"))
_COUNT_PREPARED_STATEMENTS = text(
    "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'prepared%'"
)


@pytest.fixture
def single_connection(database_url: str) -> Iterator[Database]:
    """A database whose pool has only one connection, which is new."""
    single_connection = Database(database_url, pool_size=1)
    yield single_connection
    single_connection.close()


def add(database: Database, first_summand: int, second_summand: int) -> Any:
    return database.run(
        lambda connection: _SUM.first(connection, {"a": first_summand, "b": second_summand})
    )


def prepared_statement_count(database: Database) -> int:
    return int(
        database.run(lambda connection: connection.execute(_COUNT_PREPARED_STATEMENTS).scalar_one())
    )


def first_value(database: Database, statement: str, **values: Any) -> Any:
    (row,) = database.run(
        lambda connection: PreparedStatement(text(statement)).run(connection, values)
    )
    return row[0]


def test_statement_is_prepared_once_and_executed_with_new_values(
    single_connection: Database,
) -> None:
    assert [add(single_connection, 1, n).sum for n in range(20)] == list(range(1, 21))
    assert add(single_connection, 2, 2) == (4, "100%")
    assert prepared_statement_count(single_connection) == 1


@pytest.mark.parametrize("method", ["run", "run_autocommit"])
def test_prepared_statement_runs_in_the_current_transaction(
    method: str, single_connection: Database, database_state: DatabaseState
) -> None:
    insert_statement = PreparedStatement(
        text("INSERT INTO code_attempts VALUES (:digest, ARRAY[now()], now())")
    )

    def insert_and_fail(connection: Connection) -> None:
        assert insert_statement.run(connection, {"digest": b"x"}) == ()
        raise LookupError

    run: Callable[..., None] = getattr(single_connection, method)
    with pytest.raises(LookupError):
        run(insert_and_fail)
    assert len(database_state.rows("code_attempts")) == (0 if method == "run" else 1)
    # PREPARE is not transactional: a rollback does not undo it.
    assert prepared_statement_count(single_connection) == 1


def test_prepared_statement_is_committed(
    single_connection: Database, database_state: DatabaseState
) -> None:
    insert_statement = PreparedStatement(
        text("INSERT INTO code_attempts VALUES (:digest, ARRAY[now()], now())")
    )
    with single_connection.engine.connect() as connection:
        insert_statement.run(connection, {"digest": b"x"})
        connection.commit()
    assert len(database_state.rows("code_attempts")) == 1


def test_statement_is_prepared_again_on_a_new_connection(
    single_connection: Database, database: Database
) -> None:
    add(single_connection, 1, 1)
    terminate_backend(single_connection.run_autocommit(backend_pid), database)
    assert add(single_connection, 1, 2).sum == 3
    assert prepared_statement_count(single_connection) == 1


def test_lost_connection_is_replaced(single_connection: Database, database: Database) -> None:
    attempts = []

    def terminate_once_and_add(connection: Connection) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            terminate_backend(backend_pid(connection), database)
        return _SUM.first(connection, {"a": 1, "b": 1})

    assert single_connection.run(terminate_once_and_add).sum == 2
    assert len(attempts) == 2


def test_error_of_a_closed_connection_invalidates_it(single_connection: Database) -> None:
    with single_connection.engine.connect() as connection:
        driver_connection: Any = connection.connection.dbapi_connection
        driver_connection.close()
        with pytest.raises(DBAPIError) as raised:
            _SUM.first(connection, {"a": 1, "b": 1})
    assert raised.value.connection_invalidated


def test_statement_is_prepared_again_after_a_change_of_its_table(
    new_database: Callable[[str], str], worker_id: str
) -> None:
    database = Database(new_database(f"prepared_{worker_id}"))
    select_names = PreparedStatement(text("SELECT name FROM people"))

    def read_names(connection: Connection) -> list[Any]:
        return [row.name for row in select_names.run(connection, {})]

    with database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE people (name varchar(32))"))
        connection.execute(text("INSERT INTO people VALUES ('Ann')"))
    assert database.run(read_names) == database.run_autocommit(read_names) == ["Ann"]
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE people ALTER COLUMN name TYPE varchar(64)"))
    assert database.run(read_names) == database.run_autocommit(read_names) == ["Ann"]
    database.close()


def test_errors_are_sqlalchemy_errors_without_values(single_connection: Database) -> None:
    short_timeout = Database(single_connection.engine.url, statement_timeout_s=0.1)
    with pytest.raises(OperationalError, match="statement timeout"):
        first_value(short_timeout, "SELECT pg_sleep(CAST(:seconds AS int))", seconds=5)
    short_timeout.close()
    with pytest.raises(DataError, match="division by zero") as raised:
        first_value(single_connection, "SELECT CAST(:secret AS int) / 0", secret=4711)
    assert "4711" not in str(raised.value)


def test_invalid_statement_does_not_affect_other_statements(single_connection: Database) -> None:
    for _ in range(2):
        with pytest.raises(DBAPIError, match="missing_table"):
            first_value(single_connection, "SELECT :value FROM missing_table", value=1)
    assert add(single_connection, 1, 1).sum == 2


@pytest.mark.parametrize("ids", [[], [7], [7, 2**40]])
def test_list_is_sent_as_an_array(ids: list[int], single_connection: Database) -> None:
    assert first_value(
        single_connection, "SELECT cardinality(CAST(:ids AS bigint[]))", ids=ids
    ) == len(ids)


@pytest.mark.parametrize("value", [None, "", "it's %s, \\ and 🌹", "$1"])
def test_text_is_sent_unchanged(value: str | None, single_connection: Database) -> None:
    assert first_value(single_connection, "SELECT CAST(:value AS text)", value=value) == value


def test_first_returns_none_without_rows(single_connection: Database) -> None:
    empty_query = PreparedStatement(text("SELECT 1 WHERE false"))
    assert single_connection.run(lambda connection: empty_query.first(connection, {})) is None


def test_parameters_are_numbered_by_their_first_use() -> None:
    statement = PreparedStatement(text("SELECT :b, :a, :b, 'x % 2'"))
    assert statement.numbered_text_and_names == ("SELECT $1, $2, $1, 'x % 2'", ["b", "a"])
