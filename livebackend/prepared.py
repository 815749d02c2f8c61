"""Statements that PostgreSQL plans once for a connection, and not anew for each call.

A plan costs more than what a short statement then does, and psycopg2 has no way to keep one. So a
statement that calls make all the time is marked with `prepared`; it goes out as PREPARE the first
time a connection meets it, and as EXECUTE from then on.
"""

import itertools
import re
from typing import Any, TypeVar

from sqlalchemy import Engine, Executable, event

S = TypeVar("S", bound=Executable)

_OPTION = "prepared"
_TYPES = "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = %(name)s"
_PARAMETER = re.compile(r"%\((\w+)\)s")
# No name comes twice, even if a connection's first try at one ended halfway.
_NUMBERS = itertools.count()


def prepared(statement: S) -> S:
    """The same statement, to be planned once for a connection.

    PostgreSQL must find out the types of its parameters without their values: some need a CAST.
    """
    return statement.execution_options(**{_OPTION: True})


def prepare_marked(engine: Engine) -> None:
    """Has the marked statements prepared on the connections of this engine."""
    event.listen(engine, "do_execute", _execute)


def by_number(statement: str) -> tuple[str, list[str]]:
    """A statement for psycopg2, as PREPARE takes it, and the names of its parameters in order."""
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement)
    return numbered.replace("%%", "%"), names


def _execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Executes a marked statement, and says whether it was one."""
    if not context.execution_options.get(_OPTION):
        return False
    # SQLAlchemy's own notes on a connection to the database: they end with it.
    known: dict[str, str] = context.root_connection.info.setdefault(_OPTION, {})
    if statement not in known:
        known[statement] = _prepare(cursor, statement, name=f"{_OPTION}_{next(_NUMBERS)}")
    cursor.execute(known[statement], parameters)
    return True


def _prepare(cursor: Any, statement: str, *, name: str) -> str:
    """Has a statement planned; returns the one that stands for it from then on."""
    numbered, names = by_number(statement)
    cursor.execute(f"PREPARE {name} AS {numbered}")
    cursor.execute(_TYPES, {"name": name})
    (types,) = cursor.fetchone()
    # Cast, because psycopg2 writes a list as an array of texts, whatever it is to be.
    values = [f"CAST(%({each})s AS {kind})" for each, kind in zip(names, types, strict=True)]
    return f"EXECUTE {name} ({', '.join(values)})" if values else f"EXECUTE {name}"
