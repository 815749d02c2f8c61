"""Tests of formatting and parsing cursors and message ids."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from livebackend.api import cursors
from livebackend.ledger import history
from livebackend.services import live_room_list
from livebackend.services.friends import MessageId


def test_message_id_is_parsed() -> None:
    message_id = cursors.parse_message_id("13800000002,1483669725799000")
    assert message_id == MessageId("13800000002", 1483669725799000)


def test_message_id_with_a_full_width_comma_is_parsed() -> None:
    assert cursors.parse_message_id("13800000002，7") == MessageId("13800000002", 7)


def test_history_cursor_survives_formatting_and_parsing() -> None:
    cursor = history.HistoryCursor(4711, 30)
    text = cursors.format_history_cursor(cursor)
    assert text == "4711-30"
    assert cursors.parse_history_cursor(text) == cursor


def test_room_cursor_survives_formatting_and_parsing() -> None:
    cursor = live_room_list.RoomCursor(datetime(2017, 1, 6, 2, 28, 45, 799001, tzinfo=UTC), 42)
    text = cursors.format_room_cursor(cursor)
    assert text == "1483669725799001,42"
    assert cursors.parse_room_cursor(text) == cursor


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "1-2-3", "-1", "1,", "x,y", "x-y", "1,2\n"])
def test_malformed_cursor_or_message_id_raises_value_error(text: str) -> None:
    for parse in (
        cursors.parse_message_id,
        cursors.parse_history_cursor,
        cursors.parse_room_cursor,
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            parse(text)


@pytest.mark.parametrize("parse", [cursors.parse_history_cursor, cursors.parse_room_cursor])
@pytest.mark.parametrize(
    "text",
    [
        "07{}30",
        "7{}030",
        "00{}30",
        " 7{}30",
        "7{}30 ",
        "7{}30\0",
        "+7{}30",
        "7{}３０",
        "7{}30=",
        "7_0{}3",
    ],
)
def test_cursor_has_exactly_one_spelling(parse: Any, text: str) -> None:
    separator = "-" if parse is cursors.parse_history_cursor else ","
    assert parse(f"7{separator}30")
    with pytest.raises(ValueError, match=re.escape(text.partition("{}")[0])):
        parse(text.format(separator))


@pytest.mark.parametrize(
    "text", ["13800000002,07", "13800000002,7 ", "13800000002,+7", "13800000002,７"]
)
def test_message_id_has_no_other_spelling_of_its_number(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        cursors.parse_message_id(text)
