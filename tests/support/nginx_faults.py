"""Restarts of servers behind nginx, under requests with known responses."""

from tests.support.installed_machine import InstalledMachine
from tests.support.known_requests import KnownRequests, Outcome

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
    """Run deploy/restart `count` times under load; return the outcome of the requests."""
    with requests.running(threads, pause_s=0.2):
        for _ in range(count):
            installed.check(RESTART)
    return requests.outcome
