"""A prepared statement is prepared once for a connection, and does what any other does."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from livebackend.database.engine import Database
from livebackend.database.prepared_statements import Prepared
from tests.support.backends import backend_pid, terminate_backend
from tests.support.database_state import DatabaseState

_ADD = Prepared(text("SELECT CAST(:one AS int) + CAST(:other AS int) AS sum, '100%' AS share"))
_KNOWN = text("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'prepared%'")


@pytest.fixture
def single(database_url: str) -> Iterator[Database]:
    """A database by one connection, which nobody used before."""
    single = Database(database_url, pool_size=1)
    yield single
    single.close()


def add(database: Database, one: int, other: int) -> Any:
    return database.run(lambda connection: _ADD.first(connection, {"one": one, "other": other}))


def known(database: Database) -> int:
    return int(database.run(lambda connection: connection.execute(_KNOWN).scalar_one()))


def answer(database: Database, statement: str, **values: Any) -> Any:
    (row,) = database.run(lambda connection: Prepared(text(statement)).run(connection, values))
    return row[0]


def test_it_is_prepared_once_and_its_values_are_those_of_each_call(single: Database) -> None:
    assert [add(single, 1, n).sum for n in range(20)] == list(range(1, 21))
    assert add(single, 2, 2) == (4, "100%")
    assert known(single) == 1


@pytest.mark.parametrize("way", ["run", "singly"])
def test_it_is_part_of_what_goes_on_around_it(
    way: str, single: Database, database_state: DatabaseState
) -> None:
    note = Prepared(text("INSERT INTO code_attempts VALUES (:digest, ARRAY[now()], now())"))

    def fails(connection: Connection) -> None:
        assert note.run(connection, {"digest": b"x"}) == ()
        raise LookupError

    do: Callable[..., None] = getattr(single, way)
    with pytest.raises(LookupError):
        do(fails)
    # A rollback takes back what was written, but not that it is prepared.
    assert len(database_state.rows("code_attempts")) == (0 if way == "run" else 1)
    assert known(single) == 1


def test_a_commit_commits_it(single: Database, database_state: DatabaseState) -> None:
    note = Prepared(text("INSERT INTO code_attempts VALUES (:digest, ARRAY[now()], now())"))
    with single.engine.connect() as connection:
        note.run(connection, {"digest": b"x"})
        connection.commit()
    assert len(database_state.rows("code_attempts")) == 1


def test_another_connection_prepares_it_again(single: Database, database: Database) -> None:
    add(single, 1, 1)
    terminate_backend(single.singly(backend_pid), database)
    assert add(single, 1, 2).sum == 3
    assert known(single) == 1


def test_a_connection_that_breaks_is_not_used_again(single: Database, database: Database) -> None:
    tries = []

    def work(connection: Connection) -> Any:
        tries.append(1)
        if len(tries) == 1:
            terminate_backend(backend_pid(connection), database)
        return _ADD.first(connection, {"one": 1, "other": 1})

    assert single.run(work).sum == 2
    assert len(tries) == 2


def test_a_closed_connection_is_told_as_broken(single: Database) -> None:
    with single.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.close()
        with pytest.raises(DBAPIError) as raised:
            _ADD.first(connection, {"one": 1, "other": 1})
    assert raised.value.connection_invalidated


def test_after_a_migration_it_is_prepared_anew(
    new_database: Callable[[str], str], worker_id: str
) -> None:
    database = Database(new_database(f"prepared_{worker_id}"))
    ask = Prepared(text("SELECT name FROM people"))

    def names(connection: Connection) -> list[Any]:
        return [row.name for row in ask.run(connection, {})]

    with database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE people (name varchar(32))"))
        connection.execute(text("INSERT INTO people VALUES ('Ann')"))
    assert database.run(names) == database.singly(names) == ["Ann"]
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE people ALTER COLUMN name TYPE varchar(64)"))
    assert database.run(names) == database.singly(names) == ["Ann"]
    database.close()


def test_its_errors_are_sqlalchemys_and_show_no_values(single: Database) -> None:
    impatient = Database(single.engine.url, statement_wait_s=0.1)
    with pytest.raises(OperationalError, match="statement timeout"):
        answer(impatient, "SELECT pg_sleep(CAST(:seconds AS int))", seconds=5)
    impatient.close()
    with pytest.raises(DataError, match="division by zero") as raised:
        answer(single, "SELECT CAST(:secret AS int) / 0", secret=4711)
    assert "4711" not in str(raised.value)


def test_one_that_cannot_be_prepared_spoils_no_other(single: Database) -> None:
    for _ in range(2):
        with pytest.raises(DBAPIError, match="nowhere"):
            answer(single, "SELECT :what FROM nowhere", what=1)
    assert add(single, 1, 1).sum == 2


@pytest.mark.parametrize("given", [[], [7], [7, 2**40]])
def test_a_list_is_an_array(given: list[int], single: Database) -> None:
    assert answer(single, "SELECT cardinality(CAST(:ids AS bigint[]))", ids=given) == len(given)


@pytest.mark.parametrize("given", [None, "", "it's %s, \\ and 🌹", "$1"])
def test_a_text_arrives_whole(given: str | None, single: Database) -> None:
    assert answer(single, "SELECT CAST(:said AS text)", said=given) == given


def test_nobody_is_no_row(single: Database) -> None:
    nobody = Prepared(text("SELECT 1 WHERE false"))
    assert single.run(lambda connection: nobody.first(connection, {})) is None


def test_parameters_are_numbered_by_their_first_use() -> None:
    statement = Prepared(text("SELECT :b, :a, :b, 'x % 2'"))
    assert statement.numbered == ("SELECT $1, $2, $1, 'x % 2'", ["b", "a"])
