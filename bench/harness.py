"""What the measurements of `make bench` share: the servers, their tokens and the meter."""

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import fill_database
from bench.load import Call, LoadResult, run_in_order, run_wrk
from bench.measure import Action, Meter, Row, post_form
from bench.servers import SECRET, Server
from livebackend.core.cpu_count import available_cpus
from livebackend.services.login_tokens import CurrentUser, LoginTokens

# A measurement has ROUND_COUNT rounds; in each round, every server is under load for SECONDS.
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
ROUND_COUNT = int(os.environ.get("BENCH_ROUNDS", "3"))
# Workers of each server; more workers than cores do not increase the request rate.
WORKER_COUNT = available_cpus()
# Concurrent connections to the measured server, unless a benchmark sets another number.
CONNECTION_COUNT = 16
# Time limit for calls that are sent once, per server and round.
MAX_SECONDS_IN_ORDER = 60

# The servers that have livebackend's paths and login tokens. FastAPI has others.
LIVEBACKENDS = ("livebackend", "before")
SAME_API = (*LIVEBACKENDS, "baseline", "external")

rng = random.Random(1)  # a fixed seed: every run sends the same requests

Token = Callable[[int], str]


@dataclass
class Bench:
    """The meter, the running servers, and a function that issues a login token."""

    meter: Meter
    servers: dict[str, Server]
    folder: Path
    issue_token: Callable[[str, int], str]

    def running(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self.servers]

    def token(self, account: int) -> str:
        return self.issue_token("livebackend", account)

    def measure_repeated(
        self,
        name: str,
        path: str,
        forms: Callable[[Token], list[str]],
        *,
        servers: Sequence[str] = SAME_API,
        fastapi_path: str | None = None,
        connections: int = CONNECTION_COUNT,
        expected_code: str = "0000",
    ) -> dict[str, Row]:
        """Measure repeatable requests with wrk; return the table row of each server.

        `forms` returns the encoded forms, with login tokens from its argument.
        """
        posts = dict.fromkeys(self.running(servers), (path, forms(self.token)))
        if fastapi_path and "FastAPI" in self.servers:
            posts["FastAPI"] = fastapi_path, forms(partial(self.issue_token, "FastAPI"))
        if "external" in posts and not self._external_responds(name, *posts["external"]):
            del posts["external"]

        def action(server: Server, seconds: float = SECONDS) -> LoadResult:
            server_path, bodies = posts[server.name]
            return run_wrk(
                server.port,
                server_path,
                bodies,
                folder=self.folder,
                seconds=seconds,
                connections=connections,
                expected_code=expected_code,
            )

        measured_servers = [self.servers[server] for server in posts]
        for server in measured_servers:  # warm up each server before the measurement
            action(server, 1)
        return self.meter.measure(
            name,
            dict.fromkeys(measured_servers, action),
            rounds=ROUND_COUNT,
            counted_posts={
                server: [(posts[server.name][0], form) for form in posts[server.name][1]]
                for server in measured_servers
            },
        )

    def _external_responds(self, name: str, path: str, forms: list[str]) -> bool:
        """Return whether the server of BENCH_BASELINE responds to a request as livebackend does."""
        codes = [
            _result_code(post_form(self.servers[server], path, forms[0]))
            for server in ("livebackend", "external")
        ]
        if codes[0] != codes[1]:
            print(f"{name:34} external    skipped: result code {codes[1]}, not {codes[0]}")
        return codes[0] == codes[1]

    def measure_ordered(
        self,
        name: str,
        sequences: Mapping[str, list[list[Call]]],
        *,
        clients: int = CONNECTION_COUNT,
        rounds: int = ROUND_COUNT,
    ) -> tuple[dict[str, Row], dict[str, list[Any]]]:
        """Measure calls that depend on each other or can be sent only once.

        Each round sends an equal part of the sequences. Returns the table row of each server, and
        the `message` fields of its responses.
        """
        messages: dict[str, list[Any]] = {server: [] for server in sequences}
        parts = {server: iter(_split(all_of, rounds)) for server, all_of in sequences.items()}

        def action(server: Server) -> LoadResult:
            load = run_in_order(
                server.port,
                next(parts[server.name]),
                seconds=MAX_SECONDS_IN_ORDER,
                clients=clients,
            )
            messages[server.name].extend(load.messages)
            return load

        actions: dict[Server, Action] = {self.servers[server]: action for server in sequences}
        return self.meter.measure(name, actions, rounds=rounds), messages


def _split(sequences: list[list[Call]], parts: int) -> list[list[list[Call]]]:
    return [sequences[part::parts] for part in range(parts)]


def _result_code(response: Any) -> str:
    try:
        return str(response.json()["result"])
    except (ValueError, TypeError, KeyError):
        return f"none, with status {response.status_code}"


def list_forms(selector: str, accounts: Sequence[int]) -> Callable[[Token], list[str]]:
    return lambda token: [f"{selector}=1&token={token(account)}" for account in accounts]


def listed_accounts() -> range:
    """Return the accounts that have friends and messages."""
    return range(1, fill_database.LISTED_ACCOUNTS + 1)


def new_token_issuer() -> Callable[[str, int], str]:
    """Return a function that issues a login token for a server's name and an account."""
    from bench import baseline_fastapi

    login_tokens = LoginTokens([SECRET], clock=time.time)

    def issue_token(server: str, account: int) -> str:
        if server == "FastAPI":
            return baseline_fastapi.issue_token(account, 1)
        return login_tokens.issue(
            CurrentUser(account, fill_database.phone_number(account), 1), lifetime_s=86_400
        )

    return issue_token
