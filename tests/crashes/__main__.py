"""Crash tests of gifts, refills and the end of friendships: `make crash-test`.

The server is killed before or after a step (request, COMMIT, request to the payment provider,
response), or loses its database connection between a COMMIT and its confirmation. The client
connects directly or through nginx, and follows the documented retry rules. At the end, there must
be exactly one gift, exactly one credit, or no friendship. The audit must have no findings.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import httpx
from pyramid.paster import get_appsettings

import livebackend
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.ledger.audit import audit
from livebackend.ledger.transfers import TransferKind
from livebackend_client import Client
from tests.crashes.flows import (
    BuyOnce,
    Flow,
    GiveOnce,
    Provider,
    UnfriendOnce,
    User,
    Users,
    call_with_retries,
    differences,
)
from tests.crashes.server import (
    STEPS,
    Crash,
    CrashingServer,
    RemotePayments,
    schedule_crash,
)
from tests.support.api import App
from tests.support.application import DEVELOPMENT_INI, DEVELOPMENT_SECRET
from tests.support.machine import machine
from tests.support.nginx import new_http_client, start_nginx

FLOWS: Sequence[type[Flow]] = (GiveOnce, BuyOnce, UnfriendOnce)


def new_app(url: str, folder: Path) -> App:
    ini_settings = get_appsettings(str(DEVELOPMENT_INI), name="main")
    settings = dict(ini_settings) | {
        "database.url": url,
        "database.migrate": "false",
        "data.dir": str(folder),
        "metrics.address": "",
        "events.gateway": "",
        "streams.check_interval_s": "0",
        "coins.refill": "order",
        "payments.gateway": "tests.crashes.server.RemotePayments",
    }
    app: App = livebackend.main(ini_settings.global_conf, **settings)
    # Forked child processes must not share connections, so this process closes its connections.
    services = app.registry.services
    services.database.engine.dispose()
    services.probe_database.close()
    services.rate_limits.close()
    return app


class Runner:
    """Runs flows for each crash point, and collects the errors."""

    def __init__(self, server: CrashingServer, folder: Path, runs: int) -> None:
        self._server = server
        self._steps_file = folder / "steps"
        self._runs = runs
        self.errors: list[str] = []
        self.run_count = 0

    def crash_everywhere(self, flow_name: str, run: Callable[[Crash | None], list[str]]) -> None:
        """Run a flow `runs` times for each crash point; print one line per crash point."""
        for crash in self._find_crash_points(run):
            errors = [error for _ in range(self._runs) for error in run(crash)]
            self.run_count += self._runs
            result = f"{len(errors)} ERRORS: {errors[0]}" if errors else "ok"
            crash_text = f"{crash.failure} {crash.step_name} (step {crash.step_number})"
            click.echo(f"{flow_name:32} {crash_text:40} {self._runs:4} runs  {result}")
            self.errors += [f"{flow_name}, {crash_text}: {error}" for error in errors]

    def flow_runner(
        self, flow: Flow, address: str, http_client: httpx.Client, max_attempts: int
    ) -> Any:
        """Return a function that runs the flow once on a server with a given crash point."""

        def client(user: User) -> Client:
            return Client(
                address,
                token=user.token,
                http_client=http_client,
                max_attempts=max_attempts,
                max_retry_wait_s=0.02,
            )

        def run(crash: Crash | None) -> list[str]:
            self._server.start(crash)
            try:
                errors = flow.run(client, http_client)
            finally:
                self._server.stop()
            expected_restarts = int(crash is not None and crash.failure != "lose connection after")
            return errors + differences(restarts=(self._server.restart_count, expected_restarts))

        return run

    def _find_crash_points(self, run: Callable[[Crash | None], list[str]]) -> Iterator[Crash]:
        """Record the steps of the flow in a run without a crash; yield its crash points."""
        self._steps_file.write_text("")
        STEPS.record_path = self._steps_file
        self.errors += run(None)
        STEPS.record_path = None
        for step_number, step_name in enumerate(self._steps_file.read_text().split()):
            # The application runs in the step "response". A kill between "request" and "response"
            # has the same result as a kill before "request", so the tests omit it.
            if step_name != "response":
                yield Crash(step_number, step_name, "kill before")
            if step_name != "request":
                yield Crash(step_number, step_name, "kill after")
            if step_name == "COMMIT":
                yield Crash(step_number, step_name, "lose connection after")


def reconciliation(app: App, users: Users, provider: Provider, server: CrashingServer) -> Any:
    """Return a function that reconciles a paid order whose notification was lost."""
    services = app.registry.services

    def reconcile_in_child(crash: Crash | None) -> bool:
        """Reconcile in a child process; return whether the process was killed."""
        pid = os.fork()
        if not pid:
            try:
                schedule_crash(crash)
                services.payment_reconciliation.run()
            finally:
                os._exit(0)
        return os.WIFSIGNALED(os.waitpid(pid, 0)[1])

    def run(crash: Crash | None) -> list[str]:
        buyer, _ = users.create_two(coins=0)
        steps_file, STEPS.record_path = STEPS.record_path, None
        server.start(None)
        with Client(server.address, token=buyer.token, max_retry_wait_s=0.02) as client:
            call_with_retries(client, Client.refill, money=10)
        server.stop()
        STEPS.record_path = steps_file
        users.make_orders_due()
        was_killed = reconcile_in_child(crash)
        STEPS.record_path = None
        users.make_orders_due()
        reconcile_in_child(None)
        state = users.state(buyer, transfer_kind=TransferKind.REFILL)
        return differences(
            coins=(state.coins, 10),
            refills=(state.transfers, 1),
            paid=(state.paid, 1),
            killed=(was_killed, crash is not None and crash.failure != "lose connection after"),
        )

    return run


@contextmanager
def nginx(folder: Path, server: CrashingServer) -> Iterator[tuple[str, httpx.Client]]:
    """Run nginx with high rate limits in front of the server.

    Yields the address of nginx, and a client that trusts its certificate.
    """
    with machine(folder) as nginx_machine:
        upstream = f"server 127.0.0.1:{server.port} max_fails=0;\n"
        start_nginx(
            nginx_machine, upstream, ("rate=50r/s", "rate=9000r/s"), ("burst=100", "burst=9000")
        )
        certificate = nginx_machine.root / "etc/livebackend/tls/fullchain.pem"
        with new_http_client(certificate) as http_client:
            yield f"https://127.0.0.1:{nginx_machine.ports['443']}", http_client


@click.command()
@click.option("--runs", default=2, help="number of runs per crash")
@click.option(
    "--only",
    type=click.Choice([*(flow.__name__ for flow in FLOWS), "Reconciliation"]),
    help="run only this flow",
)
def main(runs: int, only: str | None) -> None:
    """Run every flow for each crash point, and print the errors."""
    logging.disable()  # crashes cause many expected errors
    with tempfile.TemporaryDirectory(prefix="livebackend-crashes-") as folder_name:
        folder = Path(folder_name)
        postgres = EmbeddedPostgres(folder / "postgres", durable=False)
        url = postgres.start()
        database = Database(url)
        migrate(database)
        try:
            errors = run_flows(url, database, folder, runs, only)
        finally:
            database.close()
            postgres.close()
    for error in errors[:20]:
        click.echo(f"ERROR: {error}")
    raise SystemExit(1 if errors else 0)


def run_flows(url: str, database: Database, folder: Path, runs: int, only: str | None) -> list[str]:
    """Run every flow `runs` times for each crash point; return all errors.

    An error is a wrong result of a flow, or a finding of the ledger audit.
    """
    app = new_app(url, folder)
    (gateway,) = app.registry.services.gateways.payments
    assert isinstance(gateway, RemotePayments)
    provider = Provider(gateway)
    RemotePayments.address = provider.address
    users, server = Users(database, DEVELOPMENT_SECRET), CrashingServer(app)
    runner = Runner(server, folder, runs)
    with (
        nginx(folder / "nginx", server) as (nginx_address, nginx_client),
        httpx.Client() as direct_client,
    ):
        for flow in FLOWS:
            for connection_name, address, http_client, max_attempts in (
                ("directly", server.address, direct_client, 3),
                # With one attempt, the client does not retry; the flow repeats the call instead.
                ("directly, 1 attempt", server.address, direct_client, 1),
                ("behind nginx", nginx_address, nginx_client, 3),
            ):
                if only in (None, flow.__name__):
                    run = runner.flow_runner(
                        flow(users, provider), address, http_client, max_attempts
                    )
                    runner.crash_everywhere(f"{flow.__name__} {connection_name}", run)
        if only in (None, "Reconciliation"):
            run_reconciliation = reconciliation(app, users, provider, server)
            runner.crash_everywhere("Reconciliation", run_reconciliation)
    provider.close()
    findings = audit(database, since_checkpoint=False).findings
    click.echo(
        f"{runner.run_count} runs, {len(runner.errors)} errors, {len(findings)} audit findings"
    )
    return runner.errors + [f"{finding.check}: {finding.detail}" for finding in findings]


if __name__ == "__main__":
    main()
