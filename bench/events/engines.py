"""Starts each event engine with a livebackend, a database and users."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import orjson
from sqlalchemy import text

from bench.events.clients import EventClients, Target, running_clients
from bench.fill_database import add_users, phone_number, vacuum
from bench.machine import cpu_ms, memory_mb, process_tree
from livebackend.config.settings import Settings
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.services.login_tokens import CurrentUser, LoginTokens
from tests.support.event_engines import (
    RunningEngine,
    has_nchan,
    has_redis,
    local_engine,
    nchan_engine,
)
from tests.support.waiting import wait_until

EVENT_SERVER, NCHAN, NCHAN_REDIS = "event server", "Nchan", "Nchan and Redis, two nodes"
USER_COUNT = 20_000
# The limits of nginx-site.conf are for a client address, so the clients have many.
_CLIENTS_PER_ADDRESS = 50
_MAX_STREAMS_ADDRESS = 200
# More than the limits of an account: a measurement has many subscribers of one channel.
_MAX_STREAMS_EVENT_SERVER, _MAX_STREAMS_NGINX = 100, 5000
_DRAIN_TIMEOUT_S = 60
_IS_EMPTY = text(
    "SELECT NOT EXISTS (SELECT FROM outbox_events) AND NOT EXISTS (SELECT FROM event_batches)"
)


@dataclass
class EngineBench:
    """A running engine with users, whose ids are 1 to USER_COUNT."""

    name: str
    running: RunningEngine
    database: Database
    database_url: str
    folder: Path

    @property
    def is_nchan(self) -> bool:
        return bool(self.running.nodes)

    def token(self, account_id: int) -> str:
        tokens = LoginTokens([self.running.secret], clock=time.time)
        user = CurrentUser(account_id, phone_number(account_id), 1)
        return tokens.issue(user, lifetime_s=86_400)

    def stream_path(self, account_id: int) -> str:
        """Return the path of an event stream, with a new ticket."""
        response = self.running.post("/events", ticket="1", token=self.token(account_id))
        assert response["result"] == "0000", response
        parts = urlsplit(response["message"]["url"])
        return f"{parts.path}?{parts.query}"

    def subscribe(
        self, account_ids: Sequence[int], *, breaks: int = 0, seconds: int = 1
    ) -> AbstractContextManager[EventClients]:
        """Open a stream for each element of `account_ids`, which can repeat."""
        with ThreadPoolExecutor(8) as executor:
            accounts = sorted(set(account_ids))
            paths = dict(zip(accounts, executor.map(self.stream_path, accounts), strict=True))
        targets = [
            Target(f"127.0.1.{1 + index // _CLIENTS_PER_ADDRESS}", paths[account_id])
            for index, account_id in enumerate(account_ids)
        ]
        port = urlsplit(self.running.publish_url).port
        if self.is_nchan:
            port = self.running.https_ports[-1]
        assert port
        return running_clients(
            self.folder, targets, port, tls=self.is_nchan, breaks=breaks, seconds=seconds
        )

    def write_events(
        self,
        account_ids: Sequence[int],
        *,
        rate: float,
        seconds: float,
        is_live: bool = False,
        name: str = "n",
    ) -> dict[str, int]:
        """Append events to the outbox in another process; return the commit time of each text."""
        task = {
            "url": self.database_url,
            "account_ids": list(account_ids),
            "rate": rate,
            "seconds": seconds,
            "is_live": is_live,
            "name": name,
        }
        completed = subprocess.run(
            [sys.executable, "-m", "bench.events.writer"],
            input=orjson.dumps(task),
            capture_output=True,
            timeout=seconds + 60,
            check=True,
        )
        lines = completed.stdout.decode().splitlines()
        return {event_text: int(time_ns) for event_text, time_ns in map(str.split, lines)}

    def wait_until_published(self, timeout_s: float = _DRAIN_TIMEOUT_S) -> None:
        wait_until(
            lambda: bool(self.database.execute_one(_IS_EMPTY)[0]), timeout_s, "an empty outbox"
        )

    def engine_pids(self) -> list[int]:
        """Return the processes of the engine, and those of Redis."""
        pids = list(self.running.process_ids())
        for pid in process_tree(*[node.process.pid for node in self.running.nodes]):
            if pid not in pids:
                pids.append(pid)
        if self.name == NCHAN_REDIS:
            pids += _redis_pids()
        return pids

    def engine_cpu_ms(self) -> float:
        return cpu_ms(self.engine_pids())

    def server_cpu_ms(self) -> float:
        """Return the CPU time of livebackend and, if it is its child process, of the engine."""
        return cpu_ms(process_tree(self.running.server.process.pid))

    def engine_memory_mb(self) -> float:
        return memory_mb(self.engine_pids())


def event_text(event: Mapping[str, Any]) -> str:
    """Return the text that the writer gave to an event."""
    data = event["data"]
    return str(data.get("text") or data["title"]).partition(" ")[0]


def latencies_ms(clients: EventClients, commit_times: Mapping[str, int]) -> list[float]:
    return [
        (received.time_ns - commit_times[event_text(received.event)]) / 1e6
        for received in clients.events
        if event_text(received.event) in commit_times
    ]


def missing_events(
    clients: EventClients, account_ids: Sequence[int], expected: Mapping[int, int]
) -> int:
    """Return how many events the clients miss; `expected` is their number by account."""
    counts = Counter(received.client for received in clients.events)
    return sum(
        abs(expected[account_id] - counts[client]) for client, account_id in enumerate(account_ids)
    )


def available_engines() -> list[str]:
    names = [EVENT_SERVER]
    if has_nchan():
        names.append(NCHAN)
        if has_redis():
            names.append(NCHAN_REDIS)
    return names


@contextmanager
def running_engine(
    name: str,
    postgres: EmbeddedPostgres,
    folder: Path,
    changed_settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[EngineBench]:
    """Run an engine and a livebackend with two workers, on a new database."""
    folder.mkdir()
    url = _create_database(postgres, folder.name)
    settings = {
        "server.workers": "2",
        "events.max_streams_account": str(_MAX_STREAMS_EVENT_SERVER),
        "events.max_streams_address": str(_MAX_STREAMS_ADDRESS),
        **{
            limit: "1000000 per hour"
            for limit in Settings.fields_by_name()
            if limit.startswith("limits.")
        },
        **changed_settings,
    }
    nchan = partial(
        nchan_engine,
        folder,
        url,
        changed_settings=settings,
        max_streams_account=_MAX_STREAMS_NGINX,
        max_streams_address=_MAX_STREAMS_ADDRESS,
        worker_connections=16_384,
    )
    engines: dict[str, Callable[[], AbstractContextManager[RunningEngine]]] = {
        EVENT_SERVER: lambda: local_engine(folder, url, changed_settings=settings),
        NCHAN: nchan,
        NCHAN_REDIS: lambda: nchan(nodes=2, redis=True),
    }
    with engines[name]() as running:
        database = Database(url)
        try:
            yield EngineBench(name, running, database, url, folder)
        finally:
            database.close()


def _create_database(postgres: EmbeddedPostgres, name: str) -> str:
    server = Database(postgres.url("postgres"))
    with server.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    server.close()
    url = postgres.url(name)
    database = Database(url)
    migrate(database)
    add_users(database, first_id=1, last_id=USER_COUNT, password_hash="x")
    vacuum(database)
    database.close()
    return url


def _redis_pids() -> list[int]:
    return [
        pid
        for pid in process_tree(os.getpid())
        if "redis-server" in Path(f"/proc/{pid}/comm").read_text()
    ]
