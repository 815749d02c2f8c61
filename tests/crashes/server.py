"""A worker that is killed or loses its database connection at a given step."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import requests
import waitress
from sqlalchemy.engine.default import DefaultDialect

from livebackend.development.payments import DevelopmentPayments
from livebackend.gateways.payments.protocol import Order, OrderState, ProviderOrder, ProviderPayment
from tests.support.api import App

_START_TIMEOUT_S = 20


@dataclass(frozen=True)
class Crash:
    """A crash point: a failure before or after a step; the first step has number 0.

    `failure` is "kill before" or "kill after"; at a COMMIT also "lose connection after", between
    the COMMIT and its confirmation.
    """

    step_number: int
    step_name: str
    failure: str


class Steps:
    """Counts requests, COMMITs, provider calls and responses; crashes at one of them."""

    def __init__(self) -> None:
        self.crash: Crash | None = None
        self.step_names: list[str] = []
        # If set, the name of each counted step is appended to this file.
        self.record_path: Path | None = None
        self._lock = threading.Lock()

    def run(self, step_name: str, run_action: Callable[[], Any]) -> Any:
        with self._lock:
            step_number = len(self.step_names)
            self.step_names.append(step_name)
            if self.record_path:
                with self.record_path.open("a") as record_file:
                    record_file.write(f"{step_name}\n")
        failure = self.crash.failure if self.crash and self.crash.step_number == step_number else ""
        if failure == "kill before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = run_action()
        if failure == "kill after":
            os.kill(os.getpid(), signal.SIGKILL)
        if failure == "lose connection after":
            raise ConnectionLost
        return result


class ConnectionLost(Exception):
    """A COMMIT has succeeded; the caller must now close its database connection."""


# Each forked child process counts only its own steps, because it has its own copy of STEPS.
STEPS = Steps()


class RemotePayments(DevelopmentPayments):
    """Gateway to a payment provider that does not run in the process of the server."""

    address = ""

    def place(self, order: Order) -> dict[str, Any]:
        return dict(STEPS.run("place", lambda: self._request("place", order)))

    def query(self, order: Order) -> ProviderOrder:
        response = STEPS.run("query", lambda: self._request("query", order))
        if not response["paid"]:
            return ProviderOrder(OrderState.UNPAID)
        return ProviderOrder(OrderState.PAID, payment_of(order.order_id, order.fen))

    def _request(self, path: str, order: Order) -> Any:
        fields = {"order_id": order.order_id, "fen": order.fen}
        return requests.post(f"{self.address}/{path}", json=fields, timeout=5).json()


def payment_of(order_id: str, fen: int) -> ProviderPayment:
    return ProviderPayment(order_id, f"payment-of-{order_id}", fen)


class CrashingServer:
    """Runs an application in a child process; replaces the process if it is killed."""

    def __init__(self, app: App) -> None:
        self._app = app
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self._pid = 0
        self._is_stopped = threading.Event()
        self.restart_count = 0
        self._watcher = threading.Thread()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, crash: Crash | None) -> None:
        """Start a worker that crashes at `crash`, if given; its replacement does not."""
        self.restart_count = 0
        self._is_stopped.clear()
        self._fork(crash)
        self._watcher = threading.Thread(target=self._restart_when_killed)
        self._watcher.start()

    def stop(self) -> None:
        self._is_stopped.set()
        os.kill(self._pid, signal.SIGKILL)
        self._watcher.join()

    def _restart_when_killed(self) -> None:
        while True:
            os.waitpid(self._pid, 0)
            if self._is_stopped.is_set():
                return
            self.restart_count += 1
            self._fork(None)

    def _fork(self, crash: Crash | None) -> None:
        self._pid = os.fork()
        if not self._pid:
            try:
                serve(self._app, self.port, crash)
            finally:
                os._exit(1)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.005)
            else:
                return
        raise AssertionError(f"the worker did not start within {_START_TIMEOUT_S} s")


def serve(app: App, port: int, crash: Crash | None) -> None:
    """Serve the application, and kill this process at the step that `crash` names.

    A step is a request, COMMIT, provider call or response.
    """
    schedule_crash(crash)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        STEPS.run("request", lambda: None)
        return STEPS.run("response", lambda: list(app(environ, start_response)))  # type: ignore[no-any-return]

    waitress.serve(application, host="127.0.0.1", port=port, threads=4, _quiet=True)


def schedule_crash(crash: Crash | None) -> None:
    """Make this process crash at the step that `crash` names; each COMMIT is a step."""
    STEPS.crash = crash
    original_do_commit: Any = DefaultDialect.do_commit

    def do_commit(dialect: Any, connection: Any) -> None:
        try:
            STEPS.run("COMMIT", lambda: original_do_commit(dialect, connection))
        except ConnectionLost:
            connection.driver_connection.close()
            message = "server closed the connection unexpectedly"
            raise psycopg2.OperationalError(message) from None

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]
