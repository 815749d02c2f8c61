"""Signed values: each has exactly one spelling."""

import string
from collections.abc import Iterator
from itertools import chain

from livebackend.core.signing import Signer

SIGNER = Signer(["k" * 32], kind="test")
SIGNED_VALUE = SIGNER.sign({"sub": 7})
BASE64URL = string.ascii_letters + string.digits + "-_"
# All bytes, and characters that a lenient decoder ignores or maps to ASCII.
CHARACTERS = [*map(chr, range(256)), "中", "\uff21", "\ufeff", "\u200b", "\U0001f642"]


def edited_texts(text: str) -> Iterator[str]:
    """Yield each text that differs by one inserted, replaced or deleted character."""
    for index in range(len(text) + 1):
        for character in CHARACTERS:
            yield text[:index] + character + text[index:]
            yield text[:index] + character + text[index + 1 :]
        yield text[:index] + text[index + 1 :]


def test_signed_value_is_readable() -> None:
    assert SIGNER.read(SIGNED_VALUE) == {"sub": 7}


def test_no_text_that_differs_by_one_character_is_valid() -> None:
    other_texts = set(edited_texts(SIGNED_VALUE)) - {SIGNED_VALUE}
    assert len(other_texts) > 2 * 256 * len(SIGNED_VALUE) * 0.9
    assert [text for text in other_texts if SIGNER.read(text) is not None] == []


def test_no_other_last_characters_of_the_signature_are_valid() -> None:
    # Of 64 last characters, four decode to the same signature: two bits are unused.
    spellings = (SIGNED_VALUE[:-2] + a + b for a in BASE64URL for b in BASE64URL)
    assert [text for text in spellings if SIGNER.read(text) is not None] == [SIGNED_VALUE]


def test_no_padding_blank_or_other_base64_alphabet_is_valid() -> None:
    payload, _, signature = SIGNED_VALUE.partition(".")
    junk = ["=", "==", " ", "\n", "\r\n", "\t", "\0", "!!", "中", ".", "..", "%00", "+"]
    spellings = chain(
        (SIGNED_VALUE + text for text in junk),
        (text + SIGNED_VALUE for text in junk),
        (f"{payload}{text}.{signature}" for text in junk),
        (f"{payload}.{text}{signature}" for text in junk),
        [f"{payload}.{signature.swapcase()}", SIGNED_VALUE.replace(".", "．"), signature],
    )
    assert [text for text in spellings if SIGNER.read(text) is not None] == []


def test_signature_in_the_standard_base64_alphabet_is_invalid() -> None:
    signed_values = [SIGNER.sign(number) for number in range(50)]
    spellings = [text.replace("-", "+").replace("_", "/") for text in signed_values]
    changed_spellings = set(spellings) - set(signed_values)
    assert len(changed_spellings) > 20
    assert [text for text in changed_spellings if SIGNER.read(text) is not None] == []


def test_text_with_a_lone_surrogate_is_invalid() -> None:
    assert SIGNER.read(SIGNED_VALUE + "\ud800") is None
