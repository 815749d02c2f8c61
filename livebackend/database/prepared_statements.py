"""Statements that calls make all the time: prepared once for a connection, and run with no detour.

To parse and plan costs PostgreSQL more than what a short statement then does, and psycopg2 has no
way to have it done once. And SQLAlchemy's way to the driver and back costs more than the driver. So
a statement that is `Prepared` goes out as PREPARE the first time a connection meets it, as EXECUTE
from then on, which PostgreSQL soon does by a plan that it keeps.
"""

import re
from collections import namedtuple
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import psycopg2
from sqlalchemy import Connection, Executable
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.exc import DBAPIError

_DIALECT: Any = PGDialect_psycopg2()  # type: ignore[no-untyped-call]
_TYPES = "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = %s"
_PARAMETER = re.compile(r"%\((\w+)\)s")


class Prepared:
    """A statement, to be prepared once for a connection.

    PostgreSQL must find out the types of its parameters without their values: some need a CAST.
    Values go, and rows come in named tuples, as the driver has them. It runs within whatever
    transaction its connection is in, and raises what SQLAlchemy would.
    """

    def __init__(self, statement: Executable) -> None:
        compiled = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        # As psycopg2 takes it, and those parameters that are constant.
        self.text = str(compiled)
        self.constant = {
            name: compiled.params[name]
            for parameter, name in compiled.bind_names.items()
            if not parameter.required
        }
        # By its content, so that no other statement is ever taken for it.
        self._name = f"prepared_{sha256(self.text.encode()).hexdigest()[:16]}"
        # EXECUTE with its parameters, once PostgreSQL has told their types.
        self._execute = ""
        self._row: Any = None

    def run(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Any]:
        """Executes it; all its rows, or none if it returns none."""
        pooled: Any = connection.connection
        if not (pooled.dbapi_connection.autocommit or connection.in_transaction()):
            connection.begin()  # or SQLAlchemy would know of nothing to commit
        try:
            with pooled.cursor() as cursor:
                if self._name not in pooled.info:
                    cursor.execute(f"PREPARE {self._name} AS {self.numbered[0]}")
                    pooled.info[self._name] = True
                if not self._execute:
                    self._execute = self._typed(cursor)
                cursor.execute(self._execute, {**self.constant, **values})
                return self._rows(cursor)
        except psycopg2.Error as error:
            raise self._told(connection, error) from error

    def first(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """Executes it; its first row, or None."""
        rows = self.run(connection, values)
        return rows[0] if rows else None

    @property
    def numbered(self) -> tuple[str, list[str]]:
        """The statement as PREPARE takes it, and the names of its parameters in order."""
        names = list(dict.fromkeys(_PARAMETER.findall(self.text)))
        text = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", self.text)
        return text.replace("%%", "%"), names

    def _typed(self, cursor: Any) -> str:
        """What stands for it on a connection that knows it."""
        cursor.execute(_TYPES, [self._name])
        (types,) = cursor.fetchone()
        # Cast, because psycopg2 writes a list as an array of texts, whatever it is to be.
        typed = zip(self.numbered[1], types, strict=True)
        values = ", ".join(f"CAST(%({name})s AS {kind})" for name, kind in typed)
        return f"EXECUTE {self._name}" + (f" ({values})" if values else "")

    def _rows(self, cursor: Any) -> Sequence[Any]:
        if cursor.description is None:
            return ()
        if self._row is None:
            names = [column.name for column in cursor.description]
            self._row = namedtuple("Row", names, rename=True)  # type: ignore[misc]
        return [self._row._make(row) for row in cursor.fetchall()]

    def _told(self, connection: Connection, error: psycopg2.Error) -> Exception:
        """The error as SQLAlchemy tells it."""
        dialect: Any = connection.dialect
        driver: Any = connection.connection.dbapi_connection
        # A migration changed what the statement returns: only a new connection gets over it.
        is_stale = error.pgcode == "0A000" and "cached plan" in str(error)
        if is_stale or dialect.is_disconnect(error, driver, None):
            driver.close()
            # SQLAlchemy finds it closed, trusts no older one of its pool, and raises.
            connection.exec_driver_sql("SELECT 1")
        return DBAPIError.instance(self.text, None, error, psycopg2.Error)
