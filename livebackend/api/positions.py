"""Formats and parses positions in lists and message ids.

The parse functions raise ValueError.
"""

import re
from datetime import UTC, datetime, timedelta

from livebackend.ledger import history
from livebackend.services import live_rooms
from livebackend.services.friends import MessageId

# Chinese keyboards type a full-width comma.
MESSAGE_ID = "[0-9]{11}[,，][0-9]{1,18}"
RECORDS_POSITION = "[0-9]{1,18}-[0-9]{1,18}"
ROOMS_POSITION = "[0-9]{1,16},[0-9]{1,18}"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def format_message_id(phone: str, number: int) -> str:
    """Return the id of one side's copy of a friend request."""
    return f"{phone},{number}"


def parse_message_id(text: str) -> MessageId:
    phone, number = _parts(text, MESSAGE_ID)
    return MessageId(phone, int(number))


def format_records_position(place: history.Place) -> str:
    """Return the parameter `before` of the next page."""
    return f"{place.transfer_id}-{place.coins}"


def parse_records_position(text: str) -> history.Place:
    transfer_id, coins = _parts(text, RECORDS_POSITION)
    return history.Place(int(transfer_id), int(coins))


def format_rooms_position(place: live_rooms.Place) -> str:
    """Return the parameter `after` of the next page."""
    return f"{(place.started_at - _EPOCH) // _MICROSECOND},{place.room_id}"


def parse_rooms_position(text: str) -> live_rooms.Place:
    microseconds, room_id = _parts(text, ROOMS_POSITION)
    return live_rooms.Place(moment(int(microseconds)), int(room_id))


def moment(microseconds: int) -> datetime:
    """Convert microseconds since 1970 UTC to a datetime."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _parts(text: str, pattern: str) -> tuple[str, str]:
    if not re.fullmatch(pattern, text):
        raise ValueError(text)
    first, second = re.split("[,，-]", text)
    return first, second
