"""The operator, for all tests of commands."""

from tests.commands import operator

__all__ = ["operator"]
