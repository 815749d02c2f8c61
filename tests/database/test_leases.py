"""Leases: one holder at a time, until the lease expires or is released."""

import time
from functools import partial

from livebackend.database.engine import Database
from livebackend.database.leases import Lease
from tests.support.api import run_concurrently
from tests.support.database_state import DatabaseState


class TestLease:
    def test_lease_has_one_holder_until_it_expires_or_is_released(
        self, database: Database, database_state: DatabaseState
    ) -> None:
        first_lease, second_lease = Lease("x", "first", 0.3), Lease("x", "second", 0.3)
        assert database.run(first_lease.acquire) == 0
        assert 0 < database.run(second_lease.acquire) <= 0.3
        assert database.run(first_lease.acquire) == 0
        time.sleep(0.35)
        assert database.run(second_lease.acquire) == 0
        database.run(first_lease.release)
        assert database.run(first_lease.acquire) > 0
        database.run(second_lease.release)
        assert database.run(first_lease.acquire) == 0

    def test_one_of_twenty_concurrent_processes_acquires_the_lease(
        self, database: Database, database_state: DatabaseState
    ) -> None:
        leases = [Lease("x", f"process {n}", 60) for n in range(20)]
        wait_durations_s = run_concurrently(
            *[partial(database.run, lease.acquire) for lease in leases]
        )
        assert sorted(wait_s > 0 for wait_s in wait_durations_s) == [False] + [True] * 19
