"""No fault: many clients with mixed traffic, and the memory of the server."""

import time
from dataclasses import replace

from bench.machine import memory_mb, process_tree
from tests.chaos.client import Endpoint
from tests.chaos.load import Load
from tests.chaos.observation import Observation, observe
from tests.chaos.rows import Limits, Row, Scale
from tests.chaos.site import USER_COUNT, Site

_MAX_MEMORY_GROWTH = 0.03


def observe_mixed_traffic(site: Site, scale: Scale) -> Observation:
    """Send mixed traffic; compare the memory after the first third with that at the end.

    Only the processes of the first third are compared: later, concurrent uploads can start more
    picture decoders, up to a fixed number.
    """
    memory: list[float] = []
    pids: list[int] = []

    def run_and_measure() -> None:
        time.sleep(scale.pick(20, 6))
        pids.extend(process_tree(site.server.pid))
        memory.append(memory_mb(pids))
        time.sleep(scale.pick(40, 8))
        memory.append(memory_mb(pids))

    load = Load(site.users, Endpoint(site.server.port), USER_COUNT, pause_s=0.6)
    observation = observe(load, site.postgres.url, run_and_measure, readiness_port=site.server.port)
    growth = memory[1] / memory[0] - 1
    memory_text = f"PSS from {memory[0]:.0f} to {memory[1]:.0f} MB, {growth:+.1%}"
    has_grown = growth > _MAX_MEMORY_GROWTH
    errors = [f"{memory_text}, limit 3 %"] if has_grown and not scale.is_short else []
    return replace(observation, errors=observation.errors + errors, notes=[memory_text])


ROWS = [
    Row(
        f"{USER_COUNT} clients, mixed traffic",
        observe_mixed_traffic,
        Limits(min_answered=1000, refused=0, agreement_s=2),
    )
]
