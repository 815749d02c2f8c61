"""`livebackend room …`: list and close rooms."""

from pathlib import Path

import click

from livebackend.cli.ini_file import ini_argument, opened_services
from livebackend.cli.output import CommandFailed, align_columns, json_option, print_result
from livebackend.core.masking import mask_phone
from livebackend.services import operator_rooms as rooms

_DEFAULT_LIMIT = 1000


@click.group()
def room() -> None:
    """List and close rooms.

    Example: livebackend room list production.ini
    """


@room.command("list")
@ini_argument
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=_DEFAULT_LIMIT,
    show_default=True,
    help="Maximum number of rooms.",
)
@json_option
def list_rooms(ini: Path, limit: int) -> None:
    """List the open rooms, newest first.

    Phone numbers are masked.

    Example: livebackend room list production.ini
    """
    with opened_services(ini, needs_gateways=False) as services:
        active_rooms = services.database.run(
            lambda connection: rooms.list_active_rooms(connection, limit=limit)
        )
    masked_rooms = [
        room._replace(phone=room.phone and mask_phone(room.phone)) for room in active_rooms
    ]
    rows = [
        (room.id, room.state, f"{room.started_at:%Y-%m-%d %H:%M}", room.phone, room.title)
        for room in masked_rooms
    ]
    text = align_columns([("room", "state", "since (UTC)", "phone", "title"), *rows])
    print_result(
        text if rows else "there are no open rooms", rooms=[room._asdict() for room in masked_rooms]
    )


@room.command()
@ini_argument
@click.argument("room_id", metavar="ROOM", type=int)
@json_option
def close(ini: Path, room_id: int) -> None:
    """Close a room and disconnect its publisher.

    ROOM is the room's number in `livebackend room list`.

    Example: livebackend room close production.ini 42
    """
    with opened_services(ini, needs_gateways=False) as services:
        found_room = services.database.run(lambda connection: rooms.find_room(connection, room_id))
        if found_room is None or found_room.state == "closed":
            raise CommandFailed(f"room {room_id} is not open")
        services.rooms.close_for_operator(found_room.account_id)
        closed_room = services.database.run(lambda connection: rooms.find_room(connection, room_id))
    is_disconnected = bool(closed_room and closed_room.disabled_at)
    text = f"room {room_id} is closed"
    if not is_disconnected:
        text += ", but the provider failed to disable its stream: the servers retry"
    print_result(text, id=room_id, publisher_disconnected=is_disconnected)
