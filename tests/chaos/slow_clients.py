"""Slow and idle clients of nginx."""

import subprocess
import sys
from dataclasses import replace

from tests.chaos.client import Endpoint
from tests.chaos.load import Load
from tests.chaos.observation import Observation, observe
from tests.chaos.proxied import proxied_servers
from tests.chaos.rows import CLIENT_COUNT, Limits, Row, Scale
from tests.chaos.site import Site
from tests.support.application import DEVELOPMENT_INI

_MAX_P99_S = 0.2
_BODY_COUNT = 200


def observe_trickling_bodies(site: Site, scale: Scale) -> Observation:
    """Send 200 bodies with one byte a second each."""
    return _observe(site, _BODY_COUNT, scale.pick(10, 4), "trickle")


def observe_idle_connections(site: Site, scale: Scale) -> Observation:
    """Hold many connections that send nothing; nginx closes each after 10 s."""
    return _observe(site, scale.pick(10_000, 3000), scale.pick(8, 4), "idle")


def _observe(site: Site, count: int, seconds: int, kind: str) -> Observation:
    with proxied_servers(site, server_count=1) as (_, endpoint):
        load = Load(site.users, endpoint, CLIENT_COUNT)
        opened_counts: list[int] = []
        observation = observe(
            load,
            site.postgres.url,
            lambda: opened_counts.append(_connect(endpoint, count, seconds, kind)),
        )
    return replace(observation, notes=[f"{opened_counts[0]} connections"])


def _connect(endpoint: Endpoint, count: int, seconds: int, kind: str) -> int:
    """Run the slow clients; return how many connections were open at a time."""
    command = [sys.executable, "-m", "tests.chaos.slow_connections"]
    completed = subprocess.run(
        [*command, str(endpoint.port), str(count), str(seconds), kind],
        cwd=DEVELOPMENT_INI.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr[-1000:]
    return int(completed.stdout)


_LIMITS = Limits(refused=0, recovery_s=0, p99_s=_MAX_P99_S)
ROWS = [
    Row(
        f"{_BODY_COUNT} trickling bodies behind nginx",
        observe_trickling_bodies,
        _LIMITS,
        "tests/deployment/test_nginx.py",
    ),
    Row("10,000 idle connections behind nginx", observe_idle_connections, _LIMITS),
]
