"""Statements that are prepared once per connection and run without SQLAlchemy.

For a short statement, parsing and planning in PostgreSQL costs more than its execution, and
SQLAlchemy costs more than psycopg2, which does not support prepared statements. So a statement is
sent as PREPARE once on each connection, and then as EXECUTE. After a few executions, PostgreSQL
reuses a generic plan.
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

from livebackend.database.engine import RECONNECT_SQLSTATES

_DIALECT: Any = PGDialect_psycopg2()  # type: ignore[no-untyped-call]
_SELECT_PARAMETER_TYPES = (
    "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = %s"
)
_PARAMETER_PATTERN = re.compile(r"%\((\w+)\)s")


class PreparedStatement:
    """A statement that is prepared once on each connection.

    PostgreSQL must infer the parameter types from the statement, so some parameters need a CAST.
    Values are adapted by psycopg2, without SQLAlchemy's types. The statement runs in the
    connection's transaction, and its errors are SQLAlchemy's DBAPIError.
    """

    def __init__(self, statement: Executable) -> None:
        compiled = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        # `text` has psycopg2 placeholders; `constant_values` has the values of its literals.
        self.text = str(compiled)
        self.constant_values = {
            name: compiled.params[name]
            for parameter, name in compiled.bind_names.items()
            if not parameter.required
        }
        # The name contains a hash of the text, so that different statements never share a name.
        self._name = f"prepared_{sha256(self.text.encode()).hexdigest()[:16]}"
        # The EXECUTE statement is built on the first run, with the parameter types from PostgreSQL.
        self._execute_sql = ""
        self._row_type: Any = None

    def run(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Any]:
        """Execute the statement; return its rows as named tuples, or () if there are none."""
        pooled_connection: Any = connection.connection
        if not (pooled_connection.dbapi_connection.autocommit or connection.in_transaction()):
            connection.begin()  # otherwise SQLAlchemy would not commit: it does not see the EXECUTE
        try:
            with pooled_connection.cursor() as cursor:
                if self._name not in pooled_connection.info:
                    cursor.execute(f"PREPARE {self._name} AS {self.numbered_text_and_names[0]}")
                    pooled_connection.info[self._name] = True
                if not self._execute_sql:
                    self._execute_sql = self._build_execute(cursor)
                cursor.execute(self._execute_sql, {**self.constant_values, **values})
                return self._rows(cursor)
        except psycopg2.Error as error:
            raise self._sqlalchemy_error(connection, error) from error

    def first(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """Execute the statement; return its first row, or None."""
        rows = self.run(connection, values)
        return rows[0] if rows else None

    @property
    def numbered_text_and_names(self) -> tuple[str, list[str]]:
        """The statement with $1, $2, … for PREPARE, and the parameter names in order."""
        names = list(dict.fromkeys(_PARAMETER_PATTERN.findall(self.text)))
        text = _PARAMETER_PATTERN.sub(lambda match: f"${names.index(match[1]) + 1}", self.text)
        return text.replace("%%", "%"), names

    def _build_execute(self, cursor: Any) -> str:
        """Return the EXECUTE statement, with psycopg2 placeholders."""
        cursor.execute(_SELECT_PARAMETER_TYPES, [self._name])
        (parameter_types,) = cursor.fetchone()
        # psycopg2 sends every list as an array of text, so each value is cast.
        parameters = zip(self.numbered_text_and_names[1], parameter_types, strict=True)
        values = ", ".join(f"CAST(%({name})s AS {type_name})" for name, type_name in parameters)
        return f"EXECUTE {self._name}" + (f" ({values})" if values else "")

    def _rows(self, cursor: Any) -> Sequence[Any]:
        if cursor.description is None:
            return ()
        if self._row_type is None:
            names = [column.name for column in cursor.description]
            self._row_type = namedtuple("Row", names, rename=True)  # type: ignore[misc]
        return [self._row_type._make(row) for row in cursor.fetchall()]

    def _sqlalchemy_error(self, connection: Connection, error: psycopg2.Error) -> Exception:
        """Return the SQLAlchemy error for a psycopg2 error.

        If the connection is unusable, closes the connection and raises the SQLAlchemy error.
        """
        dialect: Any = connection.dialect
        driver_connection: Any = connection.connection.dbapi_connection
        # After a migration has changed the result type, the prepared statement fails with 0A000
        # until its connection is closed.
        needs_reconnect = error.pgcode in RECONNECT_SQLSTATES
        if needs_reconnect or dialect.is_disconnect(error, driver_connection, None):
            driver_connection.close()
            # This SELECT fails. SQLAlchemy then detects the closed connection and invalidates the
            # pool.
            connection.exec_driver_sql("SELECT 1")
        return DBAPIError.instance(self.text, None, error, psycopg2.Error)
