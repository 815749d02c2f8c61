"""Tests of texts without a visible character."""

import sys
import unicodedata

import pytest

from livebackend.api.visible_text import has_visible_character
from tests.support.api import UserClient
from tests.support.database_state import DatabaseState

INVISIBLE_TEXTS = [
    " ",
    "\u3000",  # ideographic space
    "\u00ad",  # soft hyphen
    "\u034f",  # combining grapheme joiner
    "\u0301",  # a mark without a base character
    "\u115f",  # Hangul filler
    "\u180e",  # Mongolian vowel separator
    "\u200b",  # zero-width space
    "\u200d\u200d",
    "\u2060",  # word joiner
    "\u2065",  # reserved as ignorable
    "\u2800",  # blank Braille pattern
    "\u3164",  # Hangul filler
    "\ufe0f",  # variation selector
    "\ufeff",  # zero-width no-break space
    "\uffa0",
    "\U0001d159",  # musical note without a head
    "\U00013441",  # blank of the Egyptian hieroglyphs
    "\uffff",  # noncharacter
    "\ufdd0",  # noncharacter
    "\U0010fffe",  # noncharacter
    "\U000e0041",  # tag
    "\u2800 \u3164\u200b",
]


@pytest.mark.parametrize("text", INVISIBLE_TEXTS, ids=ascii)
def test_nickname_title_and_description_need_a_visible_character(
    text: str, ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.refill("10")
    with database_state.assert_unchanged():
        assert ann.post("/register", profile="1", nickname=text).error == "nickname; reason=missing"
        assert ann.go_live(title=text).error == "title; reason=missing"
        assert ann.send_gift(ben, "1", description=text).error == "description; reason=missing"


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "安",
        "\u0639",
        "👩\u200d👧",
        "❤\ufe0f",
        "🇨🇳",
        ".",
        "\u28ff",
        "\U0001fae9",  # an emoji of Unicode 16
        "\ufffd",
        "\u200b1",
    ],
)
def test_text_with_a_visible_character_is_accepted(text: str) -> None:
    assert has_visible_character(text)


def test_only_characters_without_a_glyph_are_invisible() -> None:
    invisible_letters_and_symbols = {
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character)[0] in "LNPS" and not has_visible_character(character)
    }
    # These blanks have a category since Unicode 15.
    invisible_letters_and_symbols -= {"\U00013441", "\U00013442"}
    assert invisible_letters_and_symbols == set("\u115f\u1160\u2800\u3164\uffa0\U0001d159")
