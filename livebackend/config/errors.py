"""Errors of the configuration: an operator must act."""

from typing import ClassVar


class SettingsError(ValueError):
    """The settings are wrong. Has every error at once, a line each."""

    heading: ClassVar[str] = "the settings are faulty:"

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join([self.heading, *(f"  {fault}" for fault in faults)]))
        self.faults = faults


class DatabaseNotReady(SettingsError):
    """The database cannot be reached, or its tables do not fit this version."""

    heading = "the database cannot be used:"
