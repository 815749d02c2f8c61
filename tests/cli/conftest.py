"""The operator, for all tests of commands."""

from tests.support.commands import operator

__all__ = ["operator"]
