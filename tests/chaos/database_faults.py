"""Faults of PostgreSQL and of the network to it."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from tests.chaos.client import Endpoint
from tests.chaos.load import Load
from tests.chaos.observation import Observation, observe
from tests.chaos.rows import CLIENT_COUNT, OUTAGE_LIMITS, Row, Scale
from tests.chaos.server import settings
from tests.chaos.site import Site
from tests.support.tcp_proxy import TcpProxy

_TERMINATE_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'livebackend'"
)


def observe_stopped(site: Site, scale: Scale) -> Observation:
    def stop_for_some_time() -> None:
        site.postgres.stop()
        try:
            time.sleep(scale.pick(5, 4))
        finally:
            site.postgres.start()

    return _observe_shared_server(site, stop_for_some_time)


def observe_terminated_backends(site: Site, scale: Scale) -> Observation:
    def terminate_backends() -> None:
        for _ in range(scale.pick(10, 4)):
            assert site.postgres.query(_TERMINATE_BACKENDS), "the server has no backends"
            time.sleep(0.5)

    return _observe_shared_server(site, terminate_backends)


def observe_frozen(site: Site, scale: Scale) -> Observation:
    def freeze() -> None:
        with site.postgres.frozen():
            time.sleep(scale.pick(10, 5))

    return _observe_shared_server(site, freeze)


def observe_silent_connections(site: Site, scale: Scale) -> Observation:
    def be_silent(proxy: TcpProxy) -> None:
        with proxy.silent():
            time.sleep(scale.pick(10, 5))

    return _observe_behind_proxy(site, be_silent)


def observe_replaced_host(site: Site, scale: Scale) -> Observation:
    """Make the connections silent for ever; new connections work at once.

    The pool must notice the silence, so the fault lasts for the 5 s that a call can take.
    """

    def replace_host(proxy: TcpProxy) -> None:
        proxy.replace_host()
        time.sleep(5)

    return _observe_behind_proxy(site, replace_host)


def _observe_shared_server(site: Site, inject: Callable[[], object]) -> Observation:
    port = site.server.port
    load = Load(site.users, Endpoint(port), CLIENT_COUNT)
    return observe(load, site.postgres.url, inject, readiness_port=port)


def _observe_behind_proxy(site: Site, inject: Callable[[TcpProxy], object]) -> Observation:
    """Observe a fault of a server whose connections to PostgreSQL pass through a proxy."""
    with closing(TcpProxy(site.postgres.port)) as proxy:
        proxied_url = site.postgres.url.replace(f":{site.postgres.port}/", f":{proxy.port}/")
        changed = {"database.url": settings(proxied_url)["database.url"]}
        with site.own_server(changed) as server:
            load = Load(site.users, Endpoint(server.port), CLIENT_COUNT)
            return observe(
                load, site.postgres.url, lambda: inject(proxy), readiness_port=server.port
            )


ROWS = [
    Row("PostgreSQL stopped", observe_stopped, OUTAGE_LIMITS, "tests/ledger_crash_test.py"),
    Row(
        "all PostgreSQL backends terminated",
        observe_terminated_backends,
        # The server repeats transactions whose connection is lost before the COMMIT.
        replace(OUTAGE_LIMITS, min_refused=0),
    ),
    Row("PostgreSQL frozen", observe_frozen, OUTAGE_LIMITS),
    Row(
        "silent connections to PostgreSQL",
        observe_silent_connections,
        OUTAGE_LIMITS,
        "tests/database/test_call_deadlines.py",
    ),
    Row("host of PostgreSQL replaced", observe_replaced_host, OUTAGE_LIMITS),
]
