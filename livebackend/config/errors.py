"""Configuration errors, which only the operator can fix."""

from typing import ClassVar


class SettingsError(ValueError):
    """Settings are missing, unknown or invalid; the message has one line per error."""

    heading: ClassVar[str] = "the settings are invalid:"

    def __init__(self, *errors: str) -> None:
        super().__init__("\n".join([self.heading, *(f"  {line}" for line in errors)]))
        self.errors = errors


class DatabaseNotReady(SettingsError):
    """The database is not reachable, or its tables do not match this version."""

    heading = "the database cannot be used:"


class DatabaseUnavailable(DatabaseNotReady):
    """The database cannot be reached or does not respond now; it can work later."""
