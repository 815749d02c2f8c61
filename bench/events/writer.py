"""A process that appends events to the outbox at a fixed rate, in a transaction each.

It reads a task as JSON from its standard input. It prints a line for each event: its text, and the
time immediately before the COMMIT, a value of time.monotonic_ns().
"""

import itertools
import json
import sys
import time
from typing import Any

from sqlalchemy import Connection, text

from livebackend.database.engine import Database
from livebackend.events.declarations import EventType
from livebackend.events.outbox import Outbox

# Makes an event as long as one with a profile.
_PADDING = "x" * 60
_RENAME_ROOM = text(
    """
    UPDATE rooms SET title = :title WHERE account_id = :account_id AND state = 'open' RETURNING id
    """
)


def append(connection: Connection, account_id: int, event_text: str, *, is_live: bool) -> None:
    """Append a warning for the account or, if `is_live`, an event for the account's friends."""
    outbox = Outbox(enabled=True)
    if is_live:
        values = {"account_id": account_id, "title": event_text}
        room_id = connection.execute(_RENAME_ROOM, values).scalar_one()
        outbox.append(connection, EventType.FRIEND_LIVE, account_id=account_id, subject_id=room_id)
    else:
        outbox.append(
            connection, EventType.ACCOUNT_WARNED, account_id=account_id, detail=event_text
        )


def main(task: dict[str, Any]) -> None:
    database = Database(task["url"], pool_size=1)
    account_ids = itertools.cycle(task["account_ids"])
    started_at = time.monotonic()
    for number in range(round(task["rate"] * task["seconds"])):
        time.sleep(max(0, started_at + number / task["rate"] - time.monotonic()))
        event_text = f"{task['name']}{number} {_PADDING}"
        with database.engine.begin() as connection:
            append(connection, next(account_ids), event_text, is_live=task["is_live"])
            committed_ns = time.monotonic_ns()
        print(event_text.partition(" ")[0], committed_ns)
    database.close()


if __name__ == "__main__":
    main(json.loads(sys.stdin.read()))
