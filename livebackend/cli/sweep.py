"""`livebackend sweep`: run one round of the housekeeping tasks."""

from pathlib import Path

import click

from livebackend.cli.ini import ini_argument, opened_services
from livebackend.cli.output import Fault, json_option, say


@click.command()
@ini_argument
@json_option
def sweep(ini: Path) -> None:
    """Run one round of housekeeping.

    It closes rooms without a stream, deletes unused pictures, and reconciles payment orders.
    Servers do this periodically, unless the setting streams.sweep_s is 0.

    Example: livebackend sweep production.ini
    """
    with opened_services(ini) as services:
        rooms, orders, pictures = services.periodic_tasks.run_once()
    facts = {**rooms._asdict(), "pictures": pictures, "orders": orders.queried}
    if rooms.failed or orders.failed:
        raise Fault("a provider failed; the next round retries", **facts)
    say(
        f"{rooms.looked_at} rooms checked, {rooms.closed} closed,"
        f" {rooms.disabled} streams disabled, {pictures} pictures deleted,"
        f" {orders.queried} payment orders reconciled",
        **facts,
    )
