"""Records or replaces the SQL statements that the application executes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import Connection, Engine, event, text

from livebackend.database.prepared_statements import PreparedStatement

# A hook receives the connection, the statement in psycopg2's syntax and its parameters. If the hook
# returns a statement, the returned statement is executed instead.
StatementHook = Callable[[Connection, str, Any], str | None]


@contextmanager
def before_each_statement(hook: StatementHook) -> Iterator[None]:
    """Call `hook` before each SQL statement during the `with` block."""
    run = PreparedStatement.run

    def run_prepared(
        self: PreparedStatement, connection: Connection, values: Mapping[str, Any]
    ) -> Any:
        replacement = hook(connection, self.text, {**self.constant_values, **values})
        if replacement:
            return run(PreparedStatement(text(replacement)), connection, {})
        return run(self, connection, values)

    def before_cursor_execute(
        connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> tuple[str, Any]:
        replacement = hook(connection, statement, parameters)
        return (replacement, {}) if replacement else (statement, parameters)

    event.listen(Engine, "before_cursor_execute", before_cursor_execute, retval=True)
    try:
        with patch.object(PreparedStatement, "run", run_prepared):
            yield
    finally:
        event.remove(Engine, "before_cursor_execute", before_cursor_execute)


@contextmanager
def record_statements() -> Iterator[list[str]]:
    """Record the statements that are executed during the `with` block."""
    recorded: list[str] = []
    with before_each_statement(
        lambda connection, statement, parameters: recorded.append(statement)
    ):
        yield recorded


@contextmanager
def record_round_trips() -> Iterator[list[str]]:
    """Record the statements, BEGIN and COMMIT in the `with` block.

    psycopg2 sends each of them in a round trip of its own. In autocommit mode, it sends no BEGIN.
    """
    recorded: list[str] = []

    def hook(connection: Connection, statement: str, _parameters: Any) -> None:
        driver_connection: Any = connection.connection.dbapi_connection
        is_first = driver_connection.info.transaction_status == TRANSACTION_STATUS_IDLE
        if is_first and not driver_connection.autocommit:
            recorded.extend(["BEGIN", "COMMIT"])
        recorded.append(statement)

    with before_each_statement(hook):
        yield recorded
