"""Output of commands: text, or one JSON object with `--json`.

Exit codes: 0: success; 1: a problem that the operator must fix; 2: invalid arguments.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click
import orjson
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.api.error_table import error_outcome
from livebackend.config.errors import SettingsError
from livebackend.core.errors import CommitOutcomeUnknown, DomainError

_JSON_FLAG_KEY = "livebackend.json"


def _store_json_flag(context: click.Context, option: click.Parameter, value: object) -> None:
    context.meta[_JSON_FLAG_KEY] = value


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_store_json_flag,
    help="Print one JSON object.",
)


class CommandFailed(click.ClickException):
    """Ends the command with an error; `--json` prints the message and `facts`."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self._facts = facts
        self._json_requested = _json_requested()

    def show(self, file: Any = None) -> None:
        if self._json_requested:
            _print_json({"error": self.message, **self._facts})
        else:
            super().show(file)


def print_result(text: str, **facts: Any) -> None:
    """Print the facts as one JSON object with `--json`, otherwise the text."""
    if _json_requested():
        _print_json(facts)
    else:
        click.echo(text)


def print_and_exit(text: str, *, passed: bool, **facts: Any) -> NoReturn:
    """Print the result, and end the command with exit code 0 if `passed`, otherwise 1."""
    print_result(text, passed=passed, **facts)
    raise click.exceptions.Exit(0 if passed else 1)


@contextmanager
def report_errors() -> Iterator[None]:
    """End the command with one error message instead of a traceback."""
    try:
        yield
    except SettingsError as error:
        raise CommandFailed(str(error), errors=list(error.errors)) from None
    except DomainError as error:
        raise CommandFailed(error_outcome(error).detail.message) from None
    except CommitOutcomeUnknown:
        raise CommandFailed(
            "the database connection was lost during COMMIT, outcome unknown: run the command again"
        ) from None
    except (DBAPIError, PoolTimeout) as error:
        raise CommandFailed(f"database error: {_first_line(error)}") from None


def align_columns(rows: list[tuple[Any, ...]]) -> str:
    """Return the rows as lines, each column padded to its widest cell."""
    cell_rows = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cell_rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cell_rows
    )


def _json_requested() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_JSON_FLAG_KEY))


def _print_json(facts: dict[str, Any]) -> None:
    click.echo(orjson.dumps(facts, default=str).decode())


def _first_line(error: DBAPIError | PoolTimeout) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0]
