"""Leases: one holder at a time, until the lease ends or is given back."""

import time
from functools import partial

from livebackend.database.engine import Database
from livebackend.database.leases import Lease
from tests.support.api import at_once
from tests.support.database_state import DatabaseState


class TestLease:
    def test_it_is_one_holders_until_it_ends(
        self, database: Database, database_state: DatabaseState
    ) -> None:
        mine, theirs = Lease("x", "me", 0.3), Lease("x", "they", 0.3)
        assert database.run(mine.take) == 0
        assert 0 < database.run(theirs.take) <= 0.3
        assert database.run(mine.take) == 0
        time.sleep(0.35)
        assert database.run(theirs.take) == 0
        database.run(mine.give_back)
        assert database.run(mine.take) > 0
        database.run(theirs.give_back)
        assert database.run(mine.take) == 0

    def test_twenty_at_once_are_one(
        self, database: Database, database_state: DatabaseState
    ) -> None:
        leases = [Lease("x", f"process {n}", 60) for n in range(20)]
        waits = at_once(*[partial(database.run, each.take) for each in leases])
        assert sorted(wait > 0 for wait in waits) == [False] + [True] * 19
