"""`make crash-test`: each call that moves coins, with a crash at each of its steps.

A server is killed before and after each step (a request, a COMMIT, a call of the payment provider,
the response), or loses its database connection between a COMMIT and its confirmation. A client that
follows the documented rules must end with exactly one gift, one credit, or no friendship, directly
and behind nginx. At the end the audit must find nothing.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import requests
from pyramid.paster import get_appsettings

import livebackend
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.ledger.audit import audit
from livebackend_client import Client
from tests.crashes.flows import (
    BuyOnce,
    Flow,
    GiveOnce,
    Provider,
    UnfriendOnce,
    User,
    Users,
    differences,
    until_served,
)
from tests.crashes.server import (
    STEPS,
    Crash,
    CrashingServer,
    RemotePayments,
    count_steps,
)
from tests.support.api import App
from tests.support.application import DEVELOPMENT_SECRET, INI
from tests.support.machine import machine
from tests.support.nginx import HostAdapter, start_nginx

FLOWS: Sequence[type[Flow]] = (GiveOnce, BuyOnce, UnfriendOnce)


def new_app(url: str, folder: Path) -> App:
    known = get_appsettings(str(INI), name="main")
    settings = dict(known) | {
        "database.url": url,
        "database.migrate": "false",
        "var.dir": str(folder),
        "metrics.listen": "",
        "streams.sweep_s": "0",
        "coins.refill": "order",
        "payments.gateway": "tests.crashes.server.RemotePayments",
    }
    app: App = livebackend.main(known.global_conf, **settings)
    # Children must not share connections; each opens its own.
    services = app.registry.services
    services.database.engine.dispose()
    services.probe_database.close()
    services.rate_limits.close()
    return app


class Runner:
    """Runs a flow with a crash at each step, and counts what went wrong."""

    def __init__(self, server: CrashingServer, folder: Path, runs: int) -> None:
        self._server = server
        self._record = folder / "steps"
        self._runs = runs
        self.wrong: list[str] = []
        self.total = 0

    def crash_everywhere(self, name: str, run: Callable[[Crash | None], list[str]]) -> None:
        for crash in self._crashes(run):
            found = [problem for _ in range(self._runs) for problem in run(crash)]
            self.total += self._runs
            verdict = f"{len(found)} WRONG: {found[0]}" if found else "ok"
            where = f"{crash.kind} {crash.name} (step {crash.step})"
            click.echo(f"{name:32} {where:40} {self._runs:4} runs  {verdict}")
            self.wrong += [f"{name}, {where}: {problem}" for problem in found]

    def served(self, flow: Flow, address: str, session: requests.Session, tries: int) -> Any:
        """Return how to run a flow with a server that crashes."""

        def client(user: User) -> Client:
            return Client(
                address, token=user.token, session=session, tries=tries, max_retry_wait_s=0.02
            )

        def run(crash: Crash | None) -> list[str]:
            self._server.start(crash)
            try:
                found = flow.run(client, session)
            finally:
                self._server.stop()
            killed = int(crash is not None and crash.kind != "lose")
            return found + differences(restarts=(self._server.restarts, killed))

        return run

    def _crashes(self, run: Callable[[Crash | None], list[str]]) -> Iterator[Crash]:
        """Every crash of a flow, found by a run without one."""
        self._record.write_text("")
        STEPS.record = self._record
        self.wrong += run(None)
        STEPS.record = None
        for step, name in enumerate(self._record.read_text().split()):
            # Nothing happens between a request and its first step, and after a response.
            if name != "response":
                yield Crash(step, name, "kill before")
            if name != "request":
                yield Crash(step, name, "kill after")
            if name == "COMMIT":
                yield Crash(step, name, "lose")


def reconciled(app: App, users: Users, provider: Provider, server: CrashingServer) -> Any:
    """Return how to run the reconciliation of a paid order whose notification was lost."""
    services = app.registry.services

    def in_child(crash: Crash | None) -> bool:
        """Run one round in a process of its own; return whether it was killed."""
        pid = os.fork()
        if not pid:
            try:
                count_steps(crash)
                services.payment_reconciliation.run()
            finally:
                os._exit(0)
        return os.WIFSIGNALED(os.waitpid(pid, 0)[1])

    def run(crash: Crash | None) -> list[str]:
        buyer, _ = users.pair(coins=0)
        record, STEPS.record = STEPS.record, None
        server.start(None)
        client = Client(server.address, token=buyer.token, max_retry_wait_s=0.02)
        until_served(client, Client.refill, money=10)
        server.stop()
        STEPS.record = record
        users.make_orders_due()
        killed = in_child(crash)
        STEPS.record = None
        users.make_orders_due()
        in_child(None)
        state = users.state(buyer, kind=2)
        return differences(
            coins=(state.coins, 10),
            refills=(state.transfers, 1),
            paid=(state.paid, 1),
            killed=(killed, crash is not None and crash.kind != "lose"),
        )

    return run


@contextmanager
def nginx(folder: Path, server: CrashingServer) -> Iterator[tuple[str, requests.Session]]:
    """nginx in front of the server, without its rate limit; its address, and how to reach it."""
    with machine(folder) as here:
        upstream = f"server 127.0.0.1:{server.port} max_fails=0;\n"
        start_nginx(here, upstream, ("rate=50r/s", "rate=9000r/s"), ("burst=100", "burst=9000"))
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(here.root / "etc/livebackend/tls/fullchain.pem")
            session.mount("https://", HostAdapter())
            yield f"https://127.0.0.1:{here.ports['443']}", session


@click.command()
@click.option("--runs", default=2, help="how often each crash is tried")
@click.option("--only", help="the name of one flow")
def main(runs: int, only: str | None) -> None:
    """Crash at each step, and count."""
    logging.disable()  # each crash is an error of the server
    with tempfile.TemporaryDirectory(prefix="livebackend-crashes-") as name:
        folder = Path(name)
        postgres = EmbeddedPostgres(folder / "postgres", durable=False)
        url = postgres.start()
        database = Database(url)
        migrate(database)
        try:
            wrong = crash(url, database, folder, runs, only)
        finally:
            database.close()
            postgres.close()
    for problem in wrong[:20]:
        click.echo(f"WRONG: {problem}")
    raise SystemExit(1 if wrong else 0)


def crash(url: str, database: Database, folder: Path, runs: int, only: str | None) -> list[str]:
    app = new_app(url, folder)
    (gateway,) = app.registry.services.gateways.payments
    assert isinstance(gateway, RemotePayments)
    provider = Provider(gateway)
    RemotePayments.address = provider.address
    users, server = Users(database, DEVELOPMENT_SECRET), CrashingServer(app)
    runner = Runner(server, folder, runs)
    with nginx(folder / "nginx", server) as (https, by_nginx), requests.Session() as direct:
        for flow in FLOWS:
            for how, address, session, tries in (
                ("directly", server.address, direct, 3),
                # What the client does not retry, its caller does.
                ("directly, 1 try", server.address, direct, 1),
                ("behind nginx", https, by_nginx, 3),
            ):
                if only in (None, flow.__name__):
                    run = runner.served(flow(users, provider), address, session, tries)
                    runner.crash_everywhere(f"{flow.__name__} {how}", run)
        if only in (None, "Reconciliation"):
            run = reconciled(app, users, provider, server)
            runner.crash_everywhere("Reconciliation", run)
    provider.close()
    found = audit(database, since_seal=False).findings
    click.echo(f"{runner.total} runs, {len(runner.wrong)} wrong, {len(found)} audit findings")
    return runner.wrong + [f"{finding.check}: {finding.detail}" for finding in found]


if __name__ == "__main__":
    main()
