"""Formatting and parsing of positions in lists and message ids."""

import re
from datetime import UTC, datetime

import pytest

from livebackend.api import positions
from livebackend.ledger import history
from livebackend.services import live_rooms
from livebackend.services.friends import MessageId


def test_message_id_survives_formatting_and_parsing() -> None:
    text = positions.format_message_id("13800000002", 1483669725799000)
    assert text == "13800000002,1483669725799000"
    assert positions.parse_message_id(text) == MessageId("13800000002", 1483669725799000)


def test_message_id_with_a_full_width_comma_is_parsed() -> None:
    assert positions.parse_message_id("13800000002，7") == MessageId("13800000002", 7)


def test_records_position_survives_formatting_and_parsing() -> None:
    place = history.Place(4711, 30)
    text = positions.format_records_position(place)
    assert text == "4711-30"
    assert positions.parse_records_position(text) == place


def test_rooms_position_survives_formatting_and_parsing() -> None:
    place = live_rooms.Place(datetime(2017, 1, 6, 2, 28, 45, 799001, tzinfo=UTC), 42)
    text = positions.format_rooms_position(place)
    assert text == "1483669725799001,42"
    assert positions.parse_rooms_position(text) == place


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "1-2-3", "-1", "1,", "x,y", "x-y", "1,2\n"])
def test_malformed_text_raises_value_error(text: str) -> None:
    for parse in (
        positions.parse_message_id,
        positions.parse_records_position,
        positions.parse_rooms_position,
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            parse(text)
