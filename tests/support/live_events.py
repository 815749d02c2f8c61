"""Opens channels, and reads the events of the outbox without a relay."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
from jsonschema import Draft7Validator, FormatChecker
from sqlalchemy import Connection, text

from livebackend.api.asyncapi import build_event_document
from livebackend.container import Services
from livebackend.database.engine import Database
from livebackend.events.channels import open_channel, user_channel
from livebackend.events.declarations import EventType
from livebackend.events.numbering import NO_BATCH, has_no_events, next_batch
from livebackend.events.outbox import Outbox
from livebackend.events.outbox_limits import OutboxLimits
from livebackend.events.relay import Relay
from livebackend.gateways.events.protocol import EventEngine
from tests.support.api import UserClient

HOUR = timedelta(hours=1)
MESSAGES = build_event_document(url="")["components"]["messages"]

_ACCOUNT = text("SELECT id, public_id FROM accounts WHERE phone = :phone")


def account_id(database: Database, user: UserClient) -> int:
    return int(database.execute_one(_ACCOUNT, phone=user.phone).id)


def public_id(database: Database, user: UserClient) -> str:
    return str(database.execute_one(_ACCOUNT, phone=user.phone).public_id)


def open_channels(database: Database, *users: UserClient) -> list[str]:
    """Open the channels of users, as a client does; return their names."""
    names = [user_channel(account_id(database, user)) for user in users]
    for name in names:
        database.run(partial(open_channel, name=name))
    return names


def append_warning(connection: Connection, account_id: int, detail: str) -> None:
    """Append an event whose data has the text `detail`; the account need not exist."""
    Outbox(enabled=True).append(
        connection, EventType.ACCOUNT_WARNED, account_id=account_id, detail=detail
    )


def append_warnings(database: Database, account_id: int, *details: str) -> None:
    """Append events in one transaction each."""
    for detail in details:
        database.run(partial(append_warning, account_id=account_id, detail=detail))


def number_events(database: Database) -> list[dict[str, Any]]:
    """Number all events of the outbox; return them in the order of publication."""
    events: list[dict[str, Any]] = []
    batch = NO_BATCH
    while not database.run_autocommit(has_no_events):
        batch = database.run(partial(next_batch, published_id=batch.id))
        events += [orjson.loads(numbered.event.body) for numbered in batch.events]
    return events


def check_event(event: dict[str, Any]) -> None:
    """Check that an event matches the AsyncAPI document."""
    schema = MESSAGES[event["type"]]["payload"]
    Draft7Validator(schema, format_checker=FormatChecker()).validate(event)


@contextmanager
def running_relay(
    services: Services,
    engine: EventEngine,
    *,
    holder: str = "first",
    limits: OutboxLimits | None = None,
) -> Iterator[Relay]:
    """Run a relay with the database and the metrics of an application."""
    relay = Relay(
        services.database,
        engine,
        holder=holder,
        limits=limits or OutboxLimits(max_rows=1000, max_age=HOUR),
        metrics=services.metrics,
        lease_ttl_s=3.0,
    )
    relay.start()
    try:
        yield relay
    finally:
        relay.close()
