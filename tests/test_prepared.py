"""Marked statements are prepared once for a connection, and do what they did."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from livebackend.db import Database
from livebackend.prepared import by_number, prepared
from tests.test_db import kill, pid

_ADDED = prepared(text("SELECT CAST(:one AS int) + CAST(:other AS int) AS sum, '100%' AS share"))
_PREPARED = text("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'prepared%'")


@pytest.fixture
def single(database_url: str) -> Iterator[Database]:
    """A database by one connection, which nobody used before."""
    single = Database(database_url, pool_size=1)
    yield single
    single.close()


def add(database: Database, one: int, other: int) -> Any:
    given = {"one": one, "other": other}
    return database.run(lambda connection: connection.execute(_ADDED, given).one())


def count(database: Database) -> int:
    return int(database.singly(lambda connection: connection.execute(_PREPARED).scalar_one()))


def test_it_is_prepared_once_and_its_values_are_those_of_each_call(single: Database) -> None:
    assert [add(single, 1, n).sum for n in range(20)] == list(range(1, 21))
    assert add(single, 2, 2) == (4, "100%")
    assert count(single) == 1


def test_what_is_not_marked_goes_out_as_it_is(single: Database) -> None:
    assert single.singly(lambda connection: connection.execute(text("SELECT 1")).scalar_one()) == 1
    assert count(single) == 0


def test_a_rollback_leaves_it_prepared(single: Database) -> None:
    def fails(connection: Any) -> None:
        connection.execute(_ADDED, {"one": 1, "other": 1})
        raise LookupError

    with pytest.raises(LookupError):
        single.run(fails)
    assert add(single, 1, 2).sum == 3
    assert count(single) == 1


def test_another_connection_prepares_it_again(single: Database, database: Database) -> None:
    add(single, 1, 1)
    kill(single.singly(pid), database)
    assert add(single, 1, 2).sum == 3
    assert count(single) == 1


@pytest.mark.parametrize("given", [[], [7], [7, 2**40]])
def test_a_list_is_an_array(given: list[int], single: Database) -> None:
    length = prepared(text("SELECT cardinality(CAST(:ids AS bigint[]))"))
    answer = single.run(lambda connection: connection.execute(length, {"ids": given}).scalar_one())
    assert answer == len(given)


@pytest.mark.parametrize("given", [None, "", "it's %s, \\ and 🌹", "$1"])
def test_a_text_arrives_whole(given: str | None, single: Database) -> None:
    said = prepared(text("SELECT CAST(:said AS text)"))
    answer = single.run(lambda connection: connection.execute(said, {"said": given}).scalar_one())
    assert answer == given


def test_a_statement_that_cannot_be_prepared_spoils_no_other(single: Database) -> None:
    wrong = prepared(text("SELECT :what FROM nowhere"))
    for _ in range(2):
        with pytest.raises(DBAPIError, match="nowhere"):
            single.run(lambda connection: connection.execute(wrong, {"what": 1}))
    assert add(single, 1, 1).sum == 2


def test_parameters_are_numbered_by_their_first_use() -> None:
    statement = "SELECT %(b)s, %(a)s, %(b)s, x %% 2"
    assert by_number(statement) == ("SELECT $1, $2, $1, x % 2", ["b", "a"])
