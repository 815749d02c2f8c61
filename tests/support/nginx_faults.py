"""Faults of servers behind nginx, under requests with known responses.

Each function returns the outcome of the requests. The caller decides what must hold.
"""

import ssl
import time

from tests.support.installed_machine import InstalledMachine
from tests.support.known_requests import KnownRequests, Outcome
from tests.support.slow_clients import (
    idle_connections,
    plain_connections,
    tls_connections,
    trickling_bodies,
)

RESTART = "/opt/livebackend/bin/livebackend-restart"


def start_servers(installed: InstalledMachine, *ports: str) -> None:
    """Start the servers with these documented ports, and wait until they are ready."""
    for port in ports:
        installed.check(
            f"systemctl enable --now livebackend@{port}; "
            "curl --fail --silent --retry 60 --retry-delay 1 --retry-all-errors "
            f"http://127.0.0.1:{port}/readyz"
        )


def restarts(
    installed: InstalledMachine, requests: KnownRequests, count: int, threads: int = 4
) -> Outcome:
    """Run deploy/restart `count` times under load."""
    with requests.running(threads, pause_s=0.2):
        for _ in range(count):
            installed.check(RESTART)
    return requests.outcome


def slow_clients(
    installed: InstalledMachine,
    requests: KnownRequests,
    *,
    trickling: int = 200,
    idle: int = 10_000,
    seconds: float = 10,
    threads: int = 4,
) -> Outcome:
    """Send requests while other clients send bodies byte by byte, or nothing.

    The process needs `idle` + 1,000 file descriptors, and nginx as many connections.
    """
    port = int(installed.ports["443"])
    context = ssl.create_default_context(cafile=str(installed.certificate))
    with (
        trickling_bodies(tls_connections(port, context), trickling),
        idle_connections(plain_connections(port), idle),
        requests.running(threads),
    ):
        time.sleep(seconds)
    return requests.outcome
