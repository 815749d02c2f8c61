"""Format and parse message ids and the cursors of lists.

The parse functions raise ValueError.
"""

import re
from datetime import UTC, datetime, timedelta

from livebackend.ledger import history
from livebackend.services import live_room_list
from livebackend.services.friends import MessageId

# A number without leading zeros, so that each id and each cursor has exactly one spelling.
_NUMBER = "(?:0|[1-9][0-9]{0,17})"
# The pattern accepts a full-width comma too, because Chinese keyboards type it.
MESSAGE_ID = f"[0-9]{{11}}[,，]{_NUMBER}"
HISTORY_CURSOR = f"{_NUMBER}-{_NUMBER}"
ROOM_CURSOR = f"(?:0|[1-9][0-9]{{0,15}}),{_NUMBER}"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def parse_message_id(text: str) -> MessageId:
    phone, sent_at_us = _split(text, MESSAGE_ID)
    return MessageId(phone, int(sent_at_us))


def format_history_cursor(cursor: history.HistoryCursor) -> str:
    """Format a cursor as the parameter `before`, which requests the next page."""
    return f"{cursor.transfer_id}-{cursor.balance}"


def parse_history_cursor(text: str) -> history.HistoryCursor:
    transfer_id, balance = _split(text, HISTORY_CURSOR)
    return history.HistoryCursor(int(transfer_id), int(balance))


def format_room_cursor(cursor: live_room_list.RoomCursor) -> str:
    """Format a cursor as the parameter `after`, which requests the next page."""
    return f"{(cursor.started_at - _EPOCH) // _MICROSECOND},{cursor.room_id}"


def parse_room_cursor(text: str) -> live_room_list.RoomCursor:
    microseconds, room_id = _split(text, ROOM_CURSOR)
    return live_room_list.RoomCursor(datetime_from_microseconds(int(microseconds)), int(room_id))


def datetime_from_microseconds(microseconds: int) -> datetime:
    """Convert microseconds since 1970 UTC to a datetime."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _split(text: str, pattern: str) -> tuple[str, str]:
    if not re.fullmatch(pattern, text):
        raise ValueError(text)
    left_part, right_part = re.split("[,，-]", text)
    return left_part, right_part
