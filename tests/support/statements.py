"""What the application sends to PostgreSQL, looked at or changed on its way."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, Engine, event, text

from livebackend.database.prepared_statements import Prepared

# With the connection, the statement as psycopg2 takes it, and its parameters. What it returns, if
# anything, is sent instead.
Hook = Callable[[Connection, str, Any], str | None]


@contextmanager
def before_each_statement(hook: Hook) -> Iterator[None]:
    """Calls the hook before each statement, prepared or not, on every engine."""
    run = Prepared.run

    def prepared(self: Prepared, connection: Connection, values: Mapping[str, Any]) -> Any:
        instead = hook(connection, self.text, {**self.constant, **values})
        if instead:
            return run(Prepared(text(instead)), connection, {})
        return run(self, connection, values)

    def plain(
        connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> tuple[str, Any]:
        instead = hook(connection, statement, parameters)
        return (instead, {}) if instead else (statement, parameters)

    event.listen(Engine, "before_cursor_execute", plain, retval=True)
    try:
        with patch.object(Prepared, "run", prepared):
            yield
    finally:
        event.remove(Engine, "before_cursor_execute", plain)


@contextmanager
def statements_noted() -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    noted: list[str] = []
    with before_each_statement(lambda connection, statement, parameters: noted.append(statement)):
        yield noted
