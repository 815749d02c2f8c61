"""`livebackend room`: who is live, and ending it."""

from pathlib import Path

import click

from livebackend.cli.ini import ini_argument, opened_services
from livebackend.cli.output import Fault, columns, json_option, say
from livebackend.core.masking import masked
from livebackend.services import operator_rooms as rooms

_MOST = 1000


@click.group()
def room() -> None:
    """Show who is live, and close a room.

    Example: livebackend room list production.ini
    """


@room.command("list")
@ini_argument
@click.option("--most", type=click.IntRange(1, 100_000), default=_MOST, help="No more than these.")
@json_option
def list_rooms(ini: Path, most: int) -> None:
    """List the rooms that are open, the latest first; phones are masked.

    Example: livebackend room list production.ini
    """
    with opened_services(ini) as services:
        found = services.database.run(lambda connection: rooms.listing(connection, most=most))
    shown = [each._replace(phone=each.phone and masked(each.phone)) for each in found]
    rows = [
        (each.id, each.state, f"{each.started_at:%Y-%m-%d %H:%M}", each.phone, each.title)
        for each in shown
    ]
    words = columns([("room", "state", "since (UTC)", "phone", "title"), *rows])
    say(words if shown else "nobody is live", rooms=[each._asdict() for each in shown])


@room.command()
@ini_argument
@click.argument("room_id", metavar="ROOM", type=int)
@json_option
def close(ini: Path, room_id: int) -> None:
    """Close a room, by its number in the list, and cut its publisher off.

    Example: livebackend room close production.ini 42
    """
    with opened_services(ini) as services:
        found = services.database.run(lambda connection: rooms.find(connection, room_id))
        if found is None or found.state != "open":
            raise Fault(f"room {room_id} is not open")
        services.rooms.leave(found.account_id, reason="operator")
        closed = services.database.run(lambda connection: rooms.find(connection, room_id))
    cut_off = bool(closed and closed.disabled_at)
    words = f"room {room_id} is closed"
    if not cut_off:
        words += "; the provider failed, so its stream is still to be disabled"
    say(words, id=room_id, publisher_cut_off=cut_off)
