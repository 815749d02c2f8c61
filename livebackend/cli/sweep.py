"""`livebackend sweep`: one round of what servers do by themselves."""

from pathlib import Path

import click

from livebackend.cli.ini import ini_argument, opened_services
from livebackend.cli.output import Fault, json_option, say


@click.command()
@ini_argument
@json_option
def sweep(ini: Path) -> None:
    """Close rooms without a stream, drop unused pictures, reconcile orders, once.

    See the setting streams.sweep_s.

    Example: livebackend sweep production.ini
    """
    with opened_services(ini) as services:
        swept, orders, pictures = services.periodic_tasks.run_once()
    facts = {**swept._asdict(), "pictures": pictures, "orders": orders.queried}
    if swept.failed or orders.failed:
        raise Fault("a provider failed; the next round tries again", **facts)
    say(
        f"{swept.looked_at} rooms looked at, {swept.closed} closed,"
        f" {swept.disabled} streams disabled, {pictures} pictures dropped,"
        f" {orders.queried} payment orders reconciled",
        **facts,
    )
