"""Killed processes: a worker, the parent process, a worker without a database."""

import os
import signal
import time
from dataclasses import replace

from tests.chaos.client import Endpoint
from tests.chaos.load import Load
from tests.chaos.observation import Observation, observe
from tests.chaos.rows import CLIENT_COUNT, OUTAGE_LIMITS, Limits, Row, Scale
from tests.chaos.server import wait_until_ready
from tests.chaos.site import Site

_KILL_COUNT = 3
# Requests that a killed process can lose: those in flight, one for each client and kill.
_MAX_LOST = _KILL_COUNT * CLIENT_COUNT
_LOST_LIMITS = Limits(lost=_MAX_LOST, refused=_MAX_LOST, sent_again=_MAX_LOST, recovery_s=2)


def observe_killed_workers(site: Site, scale: Scale) -> Observation:
    def kill_workers() -> None:
        for _ in range(scale.pick(_KILL_COUNT, 1)):
            _kill_worker(site)
            wait_until_ready(site.server)

    return observe(_load(site), site.postgres.url, kill_workers)


def observe_killed_parents(site: Site, scale: Scale) -> Observation:
    """Kill the parent process; start it again on the same port, as systemd does."""
    port = site.server.port

    def kill_parents() -> None:
        for _ in range(scale.pick(_KILL_COUNT, 1)):
            site.server.process.kill()
            site.server.process.wait()
            site.restart(port)

    return observe(_load(site), site.postgres.url, kill_parents)


def observe_killed_worker_without_database(site: Site, scale: Scale) -> Observation:
    """Kill a worker while PostgreSQL is stopped; the server must not end."""

    def kill_worker() -> None:
        site.postgres.stop()
        try:
            _kill_worker(site)
            time.sleep(scale.pick(15, 6))
        finally:
            site.postgres.start()

    port = site.server.port
    return observe(_load(site), site.postgres.url, kill_worker, readiness_port=port)


def _load(site: Site) -> Load:
    return Load(site.users, Endpoint(site.server.port), CLIENT_COUNT)


def _kill_worker(site: Site) -> None:
    os.kill(min(site.server.workers), signal.SIGKILL)


_COVERED_BY = "tests/ledger_crash_test.py"
ROWS = [
    Row("kill -9 of a worker", observe_killed_workers, _LOST_LIMITS, _COVERED_BY),
    Row("kill -9 of the parent process", observe_killed_parents, _LOST_LIMITS, _COVERED_BY),
    Row(
        "kill -9 of a worker without PostgreSQL",
        observe_killed_worker_without_database,
        replace(OUTAGE_LIMITS, lost=CLIENT_COUNT, sent_again=CLIENT_COUNT),
    ),
]
