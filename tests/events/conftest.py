"""Fixtures of the tests of live events."""

from tests.support.commands import operator

__all__ = ["operator"]
