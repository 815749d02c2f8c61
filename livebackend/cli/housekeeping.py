"""`livebackend housekeeping`: run each housekeeping task once."""

from pathlib import Path

import click

from livebackend.cli.ini_file import ini_argument, opened_services
from livebackend.cli.output import CommandFailed, json_option, print_result


@click.command()
@ini_argument
@json_option
def housekeeping(ini: Path) -> None:
    """Run one round of housekeeping.

    The command closes rooms without a stream, reconciles payment orders, and deletes unused
    pictures, expired rate limits and old rows (settings retention.*). Servers do the same
    periodically, unless the setting streams.check_interval_s is 0.

    Example: livebackend housekeeping production.ini
    """
    with opened_services(ini) as services:
        rooms, orders, deleted_pictures, deleted_rows = services.periodic_tasks.run_once()
    facts = {
        **rooms._asdict(),
        "pictures": deleted_pictures,
        "orders": orders.queried,
        "rows": deleted_rows,
    }
    if rooms.failed or orders.failed:
        raise CommandFailed(
            "stream checks or payment reconciliations failed, see the log: the next round of"
            " housekeeping retries them",
            **facts,
        )
    print_result(
        f"{rooms.checked} rooms checked, {rooms.closed} closed,"
        f" {rooms.disabled} streams disabled, {deleted_pictures} pictures deleted,"
        f" {orders.queried} payment orders reconciled, {deleted_rows} old rows deleted",
        **facts,
    )
