"""Fixtures for the tests of commands."""

from tests.support.commands import operator

__all__ = ["operator"]
