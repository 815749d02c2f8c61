"""Test whether a text has a visible character."""

import unicodedata
from bisect import bisect_right

# The code points with the property Default_Ignorable_Code_Point, which a font without a glyph for
# them shows as nothing (Unicode 16.0, DerivedCoreProperties.txt): the first and the last of each
# range. `unicodedata` does not have this property. The table includes the code points that Unicode
# reserves for it, so that later versions of Unicode change it rarely.
_DEFAULT_IGNORABLE_RANGES = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x061C, 0x061C),  # Arabic letter mark
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0x200B, 0x200F),  # zero-width characters and marks of direction
    (0x202A, 0x202E),  # embeddings and overrides of direction
    (0x2060, 0x206F),  # word joiner, invisible operators, isolates
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),  # zero-width no-break space
    (0xFFA0, 0xFFA0),  # halfwidth Hangul filler
    (0xFFF0, 0xFFF8),  # reserved
    (0x1BCA0, 0x1BCA3),  # shorthand format controls
    (0x1D173, 0x1D17A),  # musical format controls
    (0xE0000, 0xE0FFF),  # tags, variation selectors, reserved
)
_FIRST_CODE_POINTS = [first for first, _ in _DEFAULT_IGNORABLE_RANGES]
# Characters whose glyph is empty: the blank Braille pattern, a musical note without a head, and
# the blanks of the Egyptian hieroglyphs.
_EMPTY_SYMBOLS = "\u2800\U0001d159\U00013441\U00013442"
# Categories of spaces (Z), control and format characters and surrogates (C), and marks (M), which
# need a base character. Code points without a category (Cn) can be characters of a newer version of
# Unicode, such as emoji, except the noncharacters. Private ones (Co) can have a glyph.
_INVISIBLE_CATEGORIES = frozenset(["Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Mn", "Mc", "Me"])


def has_visible_character(text: str) -> bool:
    """Return whether the text has a visible character, by Unicode properties."""
    return any(map(_is_visible, text))


def _is_visible(character: str) -> bool:
    code_point = ord(character)
    range_index = bisect_right(_FIRST_CODE_POINTS, code_point) - 1
    is_ignorable = range_index >= 0 and code_point <= _DEFAULT_IGNORABLE_RANGES[range_index][1]
    return not (
        is_ignorable
        or _is_noncharacter(code_point)
        or character in _EMPTY_SYMBOLS
        or unicodedata.category(character) in _INVISIBLE_CATEGORIES
    )


def _is_noncharacter(code_point: int) -> bool:
    """Return whether Unicode will never assign the code point (section 23.7)."""
    return code_point & 0xFFFE == 0xFFFE or 0xFDD0 <= code_point <= 0xFDEF
