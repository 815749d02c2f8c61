"""Logging as an ini file configures it, without importing the application or Pyramid."""

import configparser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import plaster

from livebackend.config.deprecated_names import configure_renamed_loggers
from livebackend.config.errors import SettingsError


def setup_logging(ini: Path) -> None:
    """Configure logging from an ini file, which can contain deprecated logger names.

    Raises SettingsError.
    """
    with syntax_errors_converted(ini):
        plaster.get_loader(str(ini), protocols=["wsgi"]).setup_logging()
    configure_renamed_loggers()


@contextmanager
def syntax_errors_converted(ini: Path) -> Iterator[None]:
    """Convert a syntax error of an ini file to SettingsError.

    The message of the original error contains a part of the line, which can be a secret. The new
    message does not.
    """
    try:
        yield
    except configparser.Error as error:
        raise SettingsError(f"{ini}: {_describe(error)}") from None


def _describe(error: configparser.Error) -> str:
    if isinstance(error, configparser.InterpolationError):
        return f"{error.option}: write a % in a value as %%"
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno}: a section such as [app:main] must come first"
    if isinstance(error, configparser.ParsingError):
        lines = ", ".join(str(line_number) for line_number, _ in error.errors)
        return f"line {lines}: is not `name = value`"
    if isinstance(error, configparser.DuplicateOptionError):
        return f"line {error.lineno}: {error.option} is set twice"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"line {error.lineno}: the section [{error.section}] exists already"
    return f"is not a valid ini file ({type(error).__name__})"
