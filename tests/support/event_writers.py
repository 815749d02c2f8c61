"""Writers of events, and a comparison of what they committed with what was published."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import orjson
from sqlalchemy import Connection, text

from livebackend.database.engine import Database
from tests.support.live_events import append_warning

_IS_EMPTY = text(
    "SELECT NOT EXISTS (SELECT FROM outbox_events) AND NOT EXISTS (SELECT FROM event_batches)"
)


class _RolledBack(Exception):
    """The writer rolls its transaction back."""


@dataclass
class Writer:
    """A thread that appends events, some of them in slow transactions or with a rollback."""

    database: Database
    number: int
    accounts: Sequence[int]
    stopped: threading.Event
    # The texts of the committed events by account, in the order of the commits.
    committed: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))

    def run(self) -> None:
        rng = random.Random(self.number)
        count = 0
        while not self.stopped.is_set():
            count += 1
            account_id, detail = rng.choice(self.accounts), f"{self.number}-{count}"
            try:
                self.database.run(partial(self._append, rng, account_id, detail))
            except _RolledBack:
                continue
            self.committed[account_id].append(detail)
            time.sleep(rng.uniform(0, 0.01))

    @staticmethod
    def _append(rng: random.Random, account_id: int, detail: str, connection: Connection) -> None:
        append_warning(connection, account_id, detail)
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0, 0.2))  # the ids of other writers are committed before
        if rng.random() < 0.1:
            raise _RolledBack


@contextmanager
def running_writers(
    database: Database, accounts: Sequence[int], *, count: int = 4
) -> Iterator[list[Writer]]:
    stopped = threading.Event()
    writers = [Writer(database, number, accounts, stopped) for number in range(count)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        stopped.set()
        for thread in threads:
            thread.join(timeout=30)


def committed_count(writers: Sequence[Writer]) -> int:
    return sum(len(texts) for writer in writers for texts in writer.committed.values())


def find_errors(lines: list[bytes], writers: list[Writer]) -> list[str]:
    """Compare the published lines with what the writers committed."""
    errors = []
    published: defaultdict[int, list[str]] = defaultdict(list)
    contents: dict[tuple[str, int], bytes] = {}
    for line in lines:
        event = orjson.loads(line)
        channel, seq = event["channel"], event["seq"]
        if contents.setdefault((channel, seq), line) != line:
            errors.append(f"{channel}: event {seq} was repeated with another content")
            continue
        account_id = int(channel.rpartition(".")[2])
        if seq == len(published[account_id]) + 1:
            published[account_id].append(event["data"]["text"])
        elif seq > len(published[account_id]):
            errors.append(f"{channel}: event {seq} follows {len(published[account_id])}")
    for writer in writers:
        for account_id in writer.accounts:
            own_texts = [
                detail for detail in published[account_id] if detail.startswith(f"{writer.number}-")
            ]
            if own_texts != writer.committed[account_id]:
                errors.append(
                    f"account {account_id}: {len(own_texts)} published events of writer"
                    f" {writer.number} differ from {len(writer.committed[account_id])} committed"
                )
    return errors


def wait_until_empty(database: Database, *, timeout_s: float) -> bool:
    """Wait until all events are published; return whether they are."""
    deadline = time.monotonic() + timeout_s
    while not database.execute_one(_IS_EMPTY)[0]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
