"""How a command says what it has done: in words, or as one JSON object with `--json`.

Exit codes: 0, all is well; 1, there is something to mend; 2, it was called wrongly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click
import orjson
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from livebackend.api.error_table import refusal_of
from livebackend.config.errors import SettingsError
from livebackend.core.errors import CommitOutcomeUnknown, DomainError

_JSON = "livebackend.json"


def _remember(context: click.Context, option: click.Parameter, value: object) -> None:
    context.meta[_JSON] = value


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_remember, help="Print one JSON object."
)


class Fault(click.ClickException):
    """Ends a command with something to mend; `facts` stand beside it in the JSON."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self._facts = facts
        self._as_json = _as_json()

    def show(self, file: Any = None) -> None:
        if self._as_json:
            _print({"error": self.message, **self._facts})
        else:
            super().show(file)


def say(words: str, **facts: Any) -> None:
    """Prints the facts as JSON, if that is asked for, or else the words."""
    if _as_json():
        _print(facts)
    else:
        click.echo(words)


def finish(words: str, *, sound: bool, **facts: Any) -> NoReturn:
    """Says it, and ends with the exit code of what is sound or not."""
    say(words, sound=sound, **facts)
    raise click.exceptions.Exit(0 if sound else 1)


@contextmanager
def faults_told() -> Iterator[None]:
    """Ends the command with one message for what an operator can mend."""
    try:
        yield
    except SettingsError as error:
        raise Fault(str(error), faults=list(error.faults)) from None
    except DomainError as error:
        raise Fault(str(refusal_of(error).refusal)) from None
    except CommitOutcomeUnknown:
        raise Fault("the database connection was lost during COMMIT; run it again") from None
    except (DBAPIError, NoConnection) as error:
        raise Fault(f"the database: {_first_line(error)}") from None


def columns(rows: list[tuple[Any, ...]]) -> str:
    """Rows one below the other, each column as wide as its widest cell."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _as_json() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_JSON))


def _print(facts: dict[str, Any]) -> None:
    click.echo(orjson.dumps(facts, default=str).decode())


def _first_line(error: DBAPIError | NoConnection) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0]
