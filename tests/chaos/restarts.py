"""Restarts, during which no request can be lost."""

import time
from dataclasses import replace

from tests.chaos.client import Endpoint
from tests.chaos.load import Load
from tests.chaos.observation import Observation, observe
from tests.chaos.proxied import proxied_servers, run_script
from tests.chaos.rows import CLIENT_COUNT, Limits, Row, Scale
from tests.chaos.site import Site


def observe_stops(site: Site, scale: Scale) -> Observation:
    """Stop the server with SIGTERM, and start it again; clients connect to it directly.

    A connection that is refused meanwhile is tried again. A request that the server has accepted
    must be answered.
    """
    port = site.server.port

    def stop_and_start() -> None:
        for _ in range(scale.pick(10, 1)):
            site.server.process.terminate()
            site.server.process.wait(30)
            site.restart(port)
            time.sleep(0.5)

    load = Load(site.users, Endpoint(port), CLIENT_COUNT)
    return observe(load, site.postgres.url, stop_and_start)


def observe_rolling_restarts(site: Site, scale: Scale) -> Observation:
    return _observe_restart_script(site, scale, server_count=2)


def observe_single_server_restarts(site: Site, scale: Scale) -> Observation:
    return _observe_restart_script(site, scale, server_count=1)


def _observe_restart_script(site: Site, scale: Scale, *, server_count: int) -> Observation:
    """Run deploy/restart several times while clients send requests to nginx."""
    with proxied_servers(site, server_count=server_count) as (test_machine, endpoint):

        def restart() -> None:
            for _ in range(scale.pick(5, 1)):
                run_script(test_machine, "restart")
                time.sleep(0.5)

        load = Load(site.users, endpoint, CLIENT_COUNT)
        return observe(load, site.postgres.url, restart)


# A server that stops closes the connections that are idle, or whose request is not complete.
_LIMITS = Limits(refused=0, sent_again=CLIENT_COUNT)
_COVERED_BY = "tests/deployment/test_restart.py"
ROWS = [
    # During a stop, a login that waits to hash its password is refused.
    Row("SIGTERM", observe_stops, replace(_LIMITS, refused=None)),
    Row("deploy/restart of two servers", observe_rolling_restarts, _LIMITS, _COVERED_BY),
    Row("deploy/restart of a single server", observe_single_server_restarts, _LIMITS, _COVERED_BY),
]
